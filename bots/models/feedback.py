"""Feedback: what people think of an answer."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bots.models.conversation import Message
from monitoring.ids import uuid7


class Feedback(models.Model):
    """One person's thumb for one answer. Another click changes it, and never makes a second."""

    team_paths = ("reply__conversation__bot__team",)

    class Vote(models.TextChoices):
        UP = "up", _("helpful")
        DOWN = "down", _("not helpful")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    reply = models.ForeignKey(Message, models.CASCADE, related_name="feedback", verbose_name=_("answer"))
    user_id = models.CharField(_("person"), max_length=200)
    vote = models.CharField(_("vote"), max_length=4, choices=Vote.choices)
    created_at = models.DateTimeField(_("given"), default=timezone.now)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name, verbose_name_plural = _("feedback"), _("feedback")
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["reply", "user_id"], name="one_vote_per_person")]
        indexes = [models.Index(fields=["-created_at", "-id"], name="feedback_newest")]

    def __str__(self) -> str:
        return str(self.get_vote_display())
