"""The app's name in the admin; tells monitoring how much of the platforms' quotas is used."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IntegrationsConfig(AppConfig):
    name = "integrations"
    verbose_name = _("Platforms")

    def ready(self) -> None:
        from integrations import alerting, quota
        from monitoring import metrics

        metrics.register_gauge("clawdbot_platform_quota_used", quota.used)
        metrics.register_gauge("clawdbot_platform_quota_ratio", quota.shares)
        alerting.register_all()
