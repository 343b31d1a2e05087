"""What happened in each minute, and which processes live. Written by every process, read by alerts and dashboard."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from monitoring.ids import uuid7


class Rollup(models.Model):
    """One minute of one process; after some minutes one row of all of them, with an empty ``process``.

    ``sums`` add up: key -> number. ``levels`` are looked at again and again: key -> [total, looks, most].
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    minute = models.DateTimeField(_("minute"))
    process = models.CharField(_("process"), max_length=120, blank=True)
    sums = models.JSONField(_("sums"), default=dict)
    levels = models.JSONField(_("levels"), default=dict)

    class Meta:
        verbose_name = _("minute")
        verbose_name_plural = _("minutes")
        ordering = ["-minute", "process"]
        constraints = [models.UniqueConstraint(fields=["minute", "process"], name="rollup_once")]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.process}".strip()


class Heartbeat(models.Model):
    """A process says that it lives. ``facts``: what it does (its queues, when it was last told to sweep)."""

    process = models.CharField(_("process"), max_length=120, unique=True)
    role = models.CharField(_("role"), max_length=20)
    host = models.CharField(_("host"), max_length=100)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("seen at"), db_index=True)
    facts = models.JSONField(_("facts"), default=dict, encoder=DjangoJSONEncoder)

    class Meta:
        verbose_name = _("process")
        verbose_name_plural = _("processes")
        ordering = ["role", "process"]

    def __str__(self) -> str:
        return f"{self.role} {self.process}"


class Leader(models.Model):
    """Which process does what only one may do, and until when nobody else takes it over."""

    name = models.CharField(_("name"), max_length=50, primary_key=True)
    owner = models.CharField(_("owner"), max_length=120, blank=True)
    until = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("leader")
        verbose_name_plural = _("leaders")

    def __str__(self) -> str:
        return f"{self.name}: {self.owner}"
