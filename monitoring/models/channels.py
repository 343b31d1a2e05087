"""Where alerts are told: group robots, e-mail, webhooks; and each notice with what became of it."""

from __future__ import annotations

import json

from django.core.serializers.json import DjangoJSONEncoder
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.ids import uuid7
from monitoring.models.alerts import Severity
from monitoring.vault import vault


class AlertChannel(models.Model):
    """One place that hears of alerts. Address and secret are encrypted, bound to this row, and never shown again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100)
    kind = models.CharField(_("kind"), max_length=20)
    least_severity = models.CharField(
        _("from this severity on"), max_length=16, choices=Severity.choices, default=Severity.WARNING
    )
    interval_s = models.PositiveIntegerField(
        _("seconds between notices"),
        default=60,
        validators=[MinValueValidator(15), MaxValueValidator(86_400)],
        help_text=_("Of one group of rules: what happens in between comes together in the next notice."),
    )
    remind_after_h = models.PositiveIntegerField(
        _("remind after hours"),
        default=24,
        validators=[MaxValueValidator(24 * 30)],
        help_text=_("Of what is still open and that nobody has acknowledged. 0: never."),
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)
    sealed = models.BinaryField(_("address and secret"), editable=False, default=b"")
    last_sent_at = models.DateTimeField(_("last sent"), null=True, editable=False)
    last_error = models.CharField(_("last error"), max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("alert channel")
        verbose_name_plural = _("alert channels")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def _aad(self) -> bytes:
        return f"monitoring.alertchannel:{self.pk}".encode()

    def put(self, address: str, secret: str) -> None:
        """Keep them, encrypted; the row is still to be saved."""
        self.sealed = vault().seal(json.dumps({"address": address, "secret": secret}), self._aad)

    def place(self) -> tuple[str, str]:
        """(address, secret), in clear. Raises what the vault raises when they cannot be read."""
        if not self.sealed:
            return "", ""
        found = json.loads(vault().unseal(bytes(self.sealed), self._aad))
        return str(found["address"]), str(found["secret"])


class AlertNotice(models.Model):
    """One message to one channel: tried again until it is there, or given up."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.ForeignKey(
        AlertChannel, models.CASCADE, related_name="notices", verbose_name=_("channel"), editable=False
    )
    group = models.CharField(_("group"), max_length=50)
    title = models.CharField(_("title"), max_length=200)
    text = models.TextField(_("text"))
    payload = models.JSONField(_("payload"), default=dict, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, default=timezone.now)
    sent_at = models.DateTimeField(_("sent"), null=True)
    error = models.CharField(_("error"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("alert notice")
        verbose_name_plural = _("alert notices")
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="notice_newest"),
            models.Index(fields=["channel", "group", "-created_at"], name="notice_of_group"),
            models.Index(
                fields=["next_attempt_at"], condition=models.Q(next_attempt_at__isnull=False), name="notice_due"
            ),
        ]

    def __str__(self) -> str:
        return self.title
