"""Loopback addresses that outgoing calls may reach for a while. Who asks is ``outbound.py``."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class OutboundExemptionQuerySet(models.QuerySet["OutboundExemption"]):
    def live(self, host: str, port: int) -> OutboundExemptionQuerySet:
        return self.filter(host=host, port=port, expires_at__gt=timezone.now())


class OutboundExemption(models.Model):
    """One host and port, as written in the address that is called. Made by ``manage.py simulate`` for its own port."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(_("host"), max_length=253)
    port = models.PositiveIntegerField(_("port"))
    note = models.CharField(_("note"), max_length=200, blank=True)
    expires_at = models.DateTimeField(_("expires at"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = OutboundExemptionQuerySet.as_manager()

    class Meta:
        verbose_name = _("outbound exemption")
        verbose_name_plural = _("outbound exemptions")
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["host", "port"], name="security_exemption_place")]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
