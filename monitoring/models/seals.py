"""What proves that nobody edited the log: the chain of seals, signed checkpoints, and who has copies of them.

Seals and checkpoints are append-only like the log itself (monitoring/triggers.py). How they are made is in
monitoring/sealer.py, how they are checked in monitoring/verifier.py.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.ids import uuid7
from monitoring.models.guard import AppendOnlyModel


class AuditWaiting(models.Model):
    """An entry without a seal. Written by a trigger of the log's table, so that an entry cannot be without one."""

    entry_id = models.UUIDField(primary_key=True)

    class Meta:
        verbose_name = _("unsealed audit entry")
        verbose_name_plural = _("unsealed audit entries")

    def __str__(self) -> str:
        return str(self.entry_id)


class AuditSeal(AppendOnlyModel):
    """One link of the chain: ``hash`` covers the entry, its place, what was found of it, and the link before."""

    class State(models.IntegerChoices):
        GENUINE = 0, _("written by ClawdBot")
        UNMARKED = 1, _("older than the marks")
        FOREIGN = 2, _("not written by ClawdBot")
        MISSING = 3, _("gone before it was sealed")

    sequence = models.BigIntegerField(primary_key=True)
    entry_id = models.UUIDField(unique=True)
    state = models.PositiveSmallIntegerField(choices=State.choices, default=State.GENUINE)
    hash = models.CharField(max_length=64)
    # Under a key of ours: shows the exact place where somebody else wrote the chain anew.
    mark = models.CharField(max_length=32)

    class Meta:
        verbose_name = _("audit seal")
        verbose_name_plural = _("audit seals")
        base_manager_name = "objects"
        ordering = ["-sequence"]

    def __str__(self) -> str:
        return f"{self.sequence}: {self.hash[:16]}"


class AuditCheckpoint(AppendOnlyModel):
    """A signed statement of how far the chain reaches and what its last hash is; or of what was purged."""

    number = models.BigIntegerField(primary_key=True)
    kind = models.CharField(_("kind"), max_length=8)
    sequence = models.BigIntegerField(_("sealed through"))
    statement = models.TextField(_("statement"), help_text=_("Canonical JSON: what the signature covers."))
    signature = models.CharField(_("signature"), max_length=128)
    signed_at = models.DateTimeField(_("signed"), default=timezone.now)

    class Meta:
        verbose_name = _("audit checkpoint")
        verbose_name_plural = _("audit checkpoints")
        base_manager_name = "objects"
        ordering = ["-number"]
        constraints = [
            models.CheckConstraint(condition=models.Q(kind__in=["seal", "purge"]), name="audit_known_checkpoint")
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.kind} {self.sequence}"

    def as_copy(self) -> dict[str, Any]:
        """What sinks and exports hold of it."""
        return {"statement": self.statement, "signature": self.signature}


class AuditKey(models.Model):
    """An Ed25519 key that signs checkpoints. The private half of the present one is sealed by the key ring; a former
    one has none any more. ``handover`` is the signed statement by which its predecessor let it take over.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    private = models.BinaryField(editable=False)
    public = models.CharField(max_length=64, help_text="32 bytes in hex.")
    fingerprint = models.CharField(max_length=64, unique=True)
    is_current = models.BooleanField(default=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    # A copy of the checkpoint that says so: that one may be purged.
    handover = models.TextField(blank=True, default="", db_default="", editable=False)
    handover_signature = models.CharField(max_length=128, blank=True, default="", db_default="", editable=False)

    class Meta:
        verbose_name = _("audit key")
        verbose_name_plural = _("audit keys")
        constraints = [
            models.UniqueConstraint(fields=["is_current"], condition=models.Q(is_current=True), name="audit_one_key")
        ]

    def __str__(self) -> str:
        return self.fingerprint


class AuditSink(models.Model):
    """How far one sink has copies of the checkpoints, and what its last trouble was."""

    name = models.CharField(_("sink"), max_length=200, unique=True)
    copied_through = models.BigIntegerField(_("copied through"), default=0)
    copied_at = models.DateTimeField(_("copied"), null=True, blank=True)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    error = models.CharField(_("error"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("audit sink")
        verbose_name_plural = _("audit sinks")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AuditCursor(models.Model):
    """How far something was read whose events are written in batches, and what was passed over on the way."""

    name = models.CharField(max_length=40, primary_key=True)
    position = models.DateTimeField()
    passed_over = models.JSONField(default=list, blank=True)

    class Meta:
        verbose_name = _("audit cursor")
        verbose_name_plural = _("audit cursors")

    def __str__(self) -> str:
        return f"{self.name}: {self.position:%Y-%m-%d %H:%M:%S}"
