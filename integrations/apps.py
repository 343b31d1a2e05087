"""The app's name in the admin; tells monitoring how much of the platforms' quotas is used."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IntegrationsConfig(AppConfig):
    name = "integrations"
    verbose_name = _("Platforms")

    def ready(self) -> None:
        from clawdbot_site.security import key_clock
        from integrations import alerting, quota, secret_change
        from monitoring import metrics

        key_clock.register(secret_change.ages)
        metrics.register_gauge("clawdbot_platform_quota_used", quota.used)
        metrics.register_gauge("clawdbot_platform_quota_ratio", quota.shares)
        alerting.register_all()
