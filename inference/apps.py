"""The app's name in the admin."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = _("Models")

    def ready(self) -> None:
        from clawdbot_site.security import key_clock
        from inference import health, key_ages, reporting  # models are there only now
        from monitoring import health as probes

        key_clock.register(key_ages.ages)
        reporting.register_gauges()
        # Not critical: one service that is down must not take the site, and the other bots, out of service.
        probes.register("models", health.answering, critical=False)
