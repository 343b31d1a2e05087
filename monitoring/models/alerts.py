"""What needs a person: the alerts; how their rules are set, and which of them are to be silent for a while."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.ids import uuid7

LONGEST_SILENCE = timedelta(days=90)


class Severity(models.TextChoices):
    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")


class AlertQuerySet(models.QuerySet["Alert"]):
    def open(self) -> AlertQuerySet:
        return self.filter(closed_at__isnull=True)


class Alert(models.Model):
    """Something that a person should look at. At most one is open for each rule and subject."""

    Severity = Severity

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    rule = models.CharField(_("rule"), max_length=100)
    subject = models.CharField(_("subject"), max_length=200, blank=True, help_text=_("What the rule looked at."))
    severity = models.CharField(_("severity"), max_length=16, choices=Severity.choices)
    summary = models.CharField(_("summary"), max_length=500)
    opened_at = models.DateTimeField(_("opened"), default=timezone.now)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.CharField(_("acknowledged by"), max_length=200, blank=True, default="", db_default="")
    details = models.JSONField(_("details"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    # What each channel was told of it: id of the channel -> {"state": "opened" or "closed", "at": moment}.
    # Null: a row that an older version wrote.
    told = models.JSONField(_("told"), default=dict, null=True, editable=False, encoder=DjangoJSONEncoder)

    objects = models.Manager.from_queryset(AlertQuerySet)()

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-opened_at", "-id"]
        indexes = [models.Index(fields=["-opened_at", "-id"], name="alert_newest")]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], condition=models.Q(closed_at__isnull=True), name="alert_open_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule}: {self.summary}"


class AlertRule(models.Model):
    """How a rule of the fixed list (monitoring.alerting.rules) is set here; empty fields leave it as it is."""

    name = models.CharField(_("rule"), max_length=100, primary_key=True, editable=False)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    threshold = models.FloatField(
        _("threshold"), null=True, blank=True, validators=[MinValueValidator(0)], help_text=_("Empty: the default.")
    )
    for_s = models.PositiveIntegerField(
        _("for so long, seconds"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(86_400)],
        help_text=_("How long it must hold before the alert opens. Empty: the default."),
    )
    severity = models.CharField(
        _("severity"),
        max_length=16,
        blank=True,
        choices=Severity.choices,
        help_text=_("Empty: the default."),
    )

    class Meta:
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class SilenceQuerySet(models.QuerySet["Silence"]):
    def in_force(self, now: datetime | None = None) -> SilenceQuerySet:
        return self.filter(until__gt=now or timezone.now())


class Silence(models.Model):
    """No notices until a moment: of one rule or all, of one subject or all. The alerts themselves still open."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    rule = models.CharField(_("rule"), max_length=100, blank=True, help_text=_("Empty: all rules."))
    subject = models.CharField(
        _("subject"), max_length=200, blank=True, help_text=_("As the alert shows it. Empty: all subjects.")
    )
    until = models.DateTimeField(_("until"))
    reason = models.CharField(_("reason"), max_length=500)
    created_by = models.CharField(_("created by"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = models.Manager.from_queryset(SilenceQuerySet)()

    class Meta:
        verbose_name = _("silence")
        verbose_name_plural = _("silences")
        ordering = ["-until", "-id"]

    def __str__(self) -> str:
        return f"{self.rule or '*'} {self.subject or '*'}: {self.reason}"

    def covers(self, rule: str, subject: str) -> bool:
        return self.rule in ("", rule) and self.subject in ("", subject)


def check_until(until: datetime) -> None:
    """Raises ValidationError: a silence has an end that is not far away."""
    if until <= timezone.now():
        raise ValidationError(_("Choose a moment that is still to come."))
    if until > timezone.now() + LONGEST_SILENCE:
        raise ValidationError(_("At most 90 days: what is always to be silent, switch off as a rule."))


def is_silenced(alert: Alert, silences: Iterable[Silence]) -> bool:
    return any(one.covers(alert.rule, alert.subject) for one in silences)
