"""Conversation and Message: what was said, how far each answer is, and who works on it."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Case, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bots.models.bot import Bot, Endpoint
from clawdbot_site.security.fields import EncryptedTextField
from inference.models import LanguageModel
from monitoring.ids import uuid7

IS_QUESTION = Q(role="user")
IS_PUSH = Q(role="assistant", reply_to__isnull=True)


class Conversation(models.Model):
    """One context of one bot: what a person, a chat or a thread (the bot's scope) said and heard.

    Also the unit of order and of work: a worker claims it by the lease columns (bots/leases.py) before it answers.
    """

    team_paths = ("bot__team",)

    class Platform(models.TextChoices):
        FEISHU = "feishu", _("Feishu / Lark")
        DINGTALK = "dingtalk", _("DingTalk")
        WEB = "web", _("Web and API")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    bot = models.ForeignKey(
        Bot,
        models.CASCADE,
        related_name="conversations",
        db_index=False,  # conversation_of_bot serves
        verbose_name=_("bot"),
    )
    endpoint = models.ForeignKey(Endpoint, models.SET_NULL, null=True, blank=True, related_name="conversations")
    platform = models.CharField(_("platform"), max_length=20, choices=Platform.choices)
    source = models.CharField(max_length=64, help_text="Where scope_key is unique: the endpoint's id, or 'web'.")
    scope_key = models.CharField(max_length=255)
    chat_type = models.CharField(_("chat type"), max_length=10, default="direct")
    chat_id = models.CharField(_("chat"), max_length=200, blank=True)
    user_id = models.CharField(_("person"), max_length=200, blank=True)
    user_name = models.CharField(_("name"), max_length=200, blank=True)
    chosen_model = models.ForeignKey(
        LanguageModel,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,  # asked for only when a model is deleted
        verbose_name=_("chosen model"),
    )
    context_started_at = models.DateTimeField(null=True, blank=True, help_text="Earlier messages are not remembered.")
    lease_owner = models.CharField(max_length=64, blank=True, default="")
    lease_fence = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        verbose_name, verbose_name_plural = _("conversation"), _("conversations")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["bot", "source", "scope_key"], name="one_conversation_per_scope")
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="conversation_newest"),
            models.Index(fields=["bot", "-created_at"], name="conversation_of_bot"),
            models.Index(fields=["user_id"], name="conversation_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self.bot} · {self.user_name or self.user_id or self.chat_id}"


class MessageQuerySet(models.QuerySet["Message"]):
    def waiting(self) -> MessageQuerySet:
        """Questions whose answer is not settled, in the order in which they must be answered."""
        return self.filter(standing=Message.Standing.WAITING).order_by("received_at", "id")

    def due(self, now: datetime) -> MessageQuerySet:
        return self.waiting().filter(Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now))

    def dead_letters(self) -> MessageQuerySet:
        """What nobody will try again by itself and no admin has put away: failed questions, pushes and sends."""
        return self.filter(standing=Message.Standing.DEAD)


class Message(models.Model):
    """What a person said, or what the bot said (``reply_to`` names the question, unless it was pushed)."""

    team_paths = ("conversation__bot__team",)

    class Role(models.TextChoices):
        USER = "user", _("person")
        ASSISTANT = "assistant", _("bot")

    class Status(models.TextChoices):
        RECEIVED = "received", _("received")
        ANSWERING = "answering", _("being answered")
        ANSWERED = "answered", _("answered, being delivered")
        DELIVERED = "delivered", _("delivered")
        UNCONFIRMED = "unconfirmed", _("sent, not confirmed")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")
        IGNORED = "ignored", _("ignored")

    class Standing(models.TextChoices):
        """What the status makes of a row for those who look for work: the partial indexes are on this.

        It follows from the row and is kept by the database. A status that changes without changing the standing (every
        status of a reply, and of a question until it is settled) touches no index: PostgreSQL updates the row in place.
        """

        WAITING = "waiting", "a question that is not settled"
        PUSH = "push", "a push that is not sent"
        DEAD = "dead", "a question or push that nobody tries again by itself"
        NONE = "", "nothing to do"

    WAITING = (Status.RECEIVED, Status.ANSWERING, Status.ANSWERED)

    DEAD = (Status.FAILED, Status.UNCONFIRMED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey(
        Conversation,
        models.CASCADE,
        related_name="messages",
        db_index=False,  # message_in_order serves
    )
    role = models.CharField(_("role"), max_length=10, choices=Role.choices)
    status = models.CharField(_("status"), max_length=12, choices=Status.choices, default=Status.RECEIVED)
    text = models.TextField(_("text"), blank=True)
    reply_to = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="replies",
        db_index=False,  # reply_to_question serves, without the questions
    )
    is_current = models.BooleanField(default=True, help_text="False: a reply replaced by a retry.")
    # What repeats are recognised by: (platform, app_id, external_id), unique.
    platform = models.CharField(max_length=20)
    app_id = models.CharField(max_length=100, blank=True)
    external_id = models.CharField(max_length=200, blank=True)
    sender_id = models.CharField(_("sender"), max_length=200, blank=True)
    details = models.JSONField(default=dict, blank=True)  # kind, mentions, attachments, target; never a secret
    session_url = EncryptedTextField(blank=True)  # DingTalk's reply address: whoever has it may write into the chat
    received_at = models.DateTimeField(_("received"), default=timezone.now)
    answered_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    discarded_at = models.DateTimeField(
        null=True, blank=True, help_text="When an admin put away what failed: it is no dead letter any more."
    )
    holders = models.PositiveIntegerField(default=0, help_text="Of a reply: workers that held it; fences its sends.")
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=20, blank=True)
    timings = models.JSONField(default=dict, blank=True)  # stage -> milliseconds
    standing = models.GeneratedField(
        expression=Case(
            When(IS_QUESTION, status__in=["received", "answering", "answered"], then=Value("waiting")),
            When(IS_PUSH, status="answered", then=Value("push")),
            When(IS_QUESTION | IS_PUSH, status__in=["failed", "unconfirmed"], discarded_at=None, then=Value("dead")),
            default=Value(""),
        ),
        output_field=models.CharField(max_length=10, choices=Standing.choices),
        db_persist=True,
    )

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("message"), _("messages")
        ordering = ["-received_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["platform", "app_id", "external_id"], condition=~Q(external_id=""), name="one_row_per_message"
            ),
            models.UniqueConstraint(
                fields=["reply_to"], condition=Q(is_current=True, reply_to__isnull=False), name="one_current_reply"
            ),
        ]
        indexes = [
            models.Index(fields=["conversation", "received_at", "id"], name="message_in_order"),
            models.Index(
                fields=["next_attempt_at", "received_at"], condition=Q(standing="waiting"), name="question_waiting"
            ),
            models.Index(fields=["next_attempt_at", "received_at"], condition=Q(standing="push"), name="push_unsent"),
            models.Index(fields=["-received_at"], condition=Q(standing="dead"), name="dead_letter"),
            models.Index(fields=["-received_at"], condition=Q(discarded_at__isnull=False), name="message_discarded"),
            models.Index(fields=["-received_at", "-id"], name="message_newest"),
            models.Index(fields=["sender_id", "received_at"], condition=Q(role="user"), name="question_of_sender"),
            models.Index(fields=["reply_to"], condition=Q(reply_to__isnull=False), name="reply_to_question"),
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()}: {self.text[:60]}"

    @property
    def tried_since(self) -> datetime:
        """What "too late" and giving up count from: the arrival, or the last retry by hand."""
        retried_at = self.details.get("retried_at")
        return datetime.fromisoformat(retried_at) if retried_at else self.received_at
