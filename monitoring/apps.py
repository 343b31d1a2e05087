"""The ground floor: every app may import monitoring, it imports none."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MonitoringConfig(AppConfig):
    name = "monitoring"
    verbose_name = _("Monitoring")

    def ready(self) -> None:
        from monitoring import checks  # noqa: F401  (registers the system checks; needs loaded settings)
        from monitoring.doctor import ground

        ground.register()
