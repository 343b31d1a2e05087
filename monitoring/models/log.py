"""What was done. Plain ids, no foreign keys: an entry outlives what it speaks of."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring import marks
from monitoring.ids import uuid7
from monitoring.models.guard import AppendOnlyModel, AppendOnlyQuerySet


class EntryQuerySet(AppendOnlyQuerySet):
    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        entries: list[AuditLog] = list(objs)
        for entry in entries:
            entry.mark = marks.of_entry(entry)
        return super().bulk_create(entries, *args, **kwargs)


class AuditLog(AppendOnlyModel):
    """One event. Written by monitoring.audit only, in the transaction of the change it tells of."""

    class ActorKind(models.TextChoices):
        USER = "user", _("person")
        CLIENT = "client", _("API client")
        SYSTEM = "system", _("system")
        PLATFORM = "platform", _("chat platform")
        ANONYMOUS = "anonymous", _("not signed in")

    class Outcome(models.TextChoices):
        SUCCESS = "success", _("success")
        REFUSED = "refused", _("refused")
        FAILURE = "failure", _("failure")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(_("time"), default=timezone.now, editable=False)
    actor_kind = models.CharField(_("kind of actor"), max_length=16, choices=ActorKind.choices)
    actor_id = models.CharField(_("actor id"), max_length=64, blank=True)
    actor_label = models.CharField(_("actor"), max_length=200, blank=True)
    action = models.CharField(_("action"), max_length=100)
    target_type = models.CharField(_("kind of target"), max_length=100, blank=True)
    target_id = models.CharField(_("target id"), max_length=64, blank=True)
    target_label = models.CharField(_("target"), max_length=200, blank=True)
    changes = models.JSONField(_("changes"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome.choices, default=Outcome.SUCCESS)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    count = models.PositiveIntegerField(_("times"), default=1, help_text=_("How many equal events it tells of."))
    address = models.CharField(_("address"), max_length=45, blank=True)
    request_id = models.CharField(_("request id"), max_length=64, blank=True)
    # A keyed digest of all of the above: who writes into the table without our keys cannot make one.
    mark = models.CharField(max_length=32, blank=True, default="", db_default="", editable=False)

    objects: ClassVar[Any] = models.Manager.from_queryset(EntryQuerySet)()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        base_manager_name = "objects"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="audit_newest"),
            models.Index(fields=["action", "-created_at"], name="audit_action"),
            models.Index(fields=["actor_id", "-created_at"], name="audit_actor"),
            models.Index(fields=["target_type", "target_id", "-created_at"], name="audit_target"),
            models.Index(fields=["outcome", "-created_at"], name="audit_outcome"),
        ]
        constraints = [
            models.CheckConstraint(condition=~models.Q(action=""), name="audit_has_action"),
            models.CheckConstraint(
                condition=models.Q(outcome__in=["success", "refused", "failure"]), name="audit_known_outcome"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.action} {self.target_label}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.mark = marks.of_entry(self)
        super().save(*args, **kwargs)
