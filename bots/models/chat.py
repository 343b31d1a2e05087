"""Chat: a group on a platform in which a bot is or was, and how the bot behaves in it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bots.models.bot import Bot, Endpoint
from monitoring.ids import uuid7


class Chat(models.Model):
    """Written when the platform tells that the bot was added, when somebody writes there, or by an admin."""

    team_paths = ("endpoint__bot__team", "endpoint__credential__team")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="chats", verbose_name=_("endpoint"))
    chat_id = models.CharField(_("group ID"), max_length=200, help_text=_("As the platform names it."))
    name = models.CharField(_("name"), max_length=200, blank=True)
    group_policy = models.CharField(
        _("in this group"),
        max_length=10,
        choices=Bot.GroupPolicy.choices,
        blank=True,
        help_text=_("When the bot answers here. Empty: as the bot is set."),
    )
    left_at = models.DateTimeField(_("left"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("known since"), default=timezone.now, editable=False)

    class Meta:
        verbose_name, verbose_name_plural = _("chat group"), _("chat groups")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "chat_id"],
                name="one_row_per_chat",
                violation_error_message=_("This group is listed already."),
            )
        ]
        indexes = [models.Index(fields=["-created_at", "-id"], name="chat_newest")]

    def __str__(self) -> str:
        return self.name or self.chat_id
