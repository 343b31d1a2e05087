"""The ground floor: every app may import monitoring, it imports none."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MonitoringConfig(AppConfig):
    name = "monitoring"
    verbose_name = _("Monitoring")

    def ready(self) -> None:
        from monitoring import checks, metrics, sealer  # checks registers itself; all need loaded settings
        from monitoring.alerting import ground as ground_rules
        from monitoring.doctor import ground

        assert checks
        metrics.register_gauge("clawdbot_audit_unsealed", sealer.waiting)
        ground.register()
        ground_rules.register_rules()
