"""The product's app: tells monitoring what it must know of queues and models."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BotsConfig(AppConfig):
    name = "bots"
    verbose_name = _("Bots")

    def ready(self) -> None:
        from bots import alerting, chats, checking, doctor, gauges, places

        gauges.register()
        places.register()
        chats.register()
        checking.register()
        doctor.register()
        alerting.register_all()
