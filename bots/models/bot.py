"""Bot: how to answer. Endpoint: a bot joined to a platform app, at an address only the platform knows."""

from __future__ import annotations

import re
import secrets
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Value
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.fields import EncryptedTextField
from clawdbot_site.security.key_ring import lookup_hash
from inference.models import LanguageModel
from integrations.models import PlatformCredential
from monitoring.ids import uuid7

# What may stand in ``allowed_link_hosts``, and how many; the admin and the API check it, each in its own words.
LINK_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
MOST_LINK_HOSTS = 100
MOST_ALLOWED, LONGEST_ALLOWED = 1000, 200  # entries of each list of who may talk, and characters of one
EMPTY = Value([], models.JSONField())


def default_ai_notice() -> str:
    """Chinese rules want answers marked as made by AI, so there the line is on from the start."""
    return "以上内容由 AI 生成" if settings.LANGUAGE_CODE.startswith("zh") else ""


class Bot(models.Model):
    team_paths = ("team",)  # clawdbot_site/security/teams.py

    class ContextScope(models.TextChoices):
        SENDER = "sender", _("each person apart")
        CHAT = "chat", _("the whole chat together")
        THREAD = "thread", _("each thread apart")

    class GroupPolicy(models.TextChoices):
        MENTION = "mention", _("only when mentioned")
        ALL = "all", _("every message")
        SILENT = "silent", _("never")

    class Access(models.TextChoices):
        EVERYONE = "everyone", _("everyone")
        LISTED = "listed", _("only who is listed")

    class Moderates(models.TextChoices):
        BOTH = "both", _("questions and answers")
        INPUT = "input", _("questions")
        OUTPUT = "output", _("answers")

    class OnFailure(models.TextChoices):
        CLOSED = "closed", _("do not answer")
        OPEN = "open", _("go on without it")

    class ReplyMode(models.TextChoices):
        STREAM = "stream", _("as it is written (cards)")
        TEXT = "text", _("one message when it is complete")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(_("slug"), unique=True, help_text=_("Names the bot in addresses and in the API."))
    name = models.CharField(_("name"), max_length=100)
    team = models.ForeignKey("security.Team", models.PROTECT, null=True, blank=True, verbose_name=_("team"))
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="bots", verbose_name=_("model"))
    fallback_model = models.ForeignKey(
        LanguageModel,
        models.PROTECT,
        related_name="fallback_bots",
        null=True,
        blank=True,
        verbose_name=_("fallback model"),
        help_text=_("Answers when the model fails before anything was shown."),
    )
    system_prompt = models.TextField(_("system prompt"), blank=True, max_length=20_000)
    temperature = models.FloatField(
        _("temperature"), default=0.7, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)]
    )
    top_p = models.FloatField(_("top p"), default=1.0, validators=[MinValueValidator(0.01), MaxValueValidator(1.0)])
    max_tokens = models.PositiveIntegerField(
        _("longest answer, tokens"), default=1024, validators=[MinValueValidator(1), MaxValueValidator(131_072)]
    )
    history_messages = models.PositiveSmallIntegerField(
        _("remembered messages"), default=20, validators=[MaxValueValidator(500)]
    )
    context_scope = models.CharField(
        _("context"), max_length=10, choices=ContextScope.choices, default=ContextScope.SENDER
    )
    group_policy = models.CharField(
        _("in groups"), max_length=10, choices=GroupPolicy.choices, default=GroupPolicy.MENTION
    )
    access = models.CharField(
        _("who may talk to it"),
        max_length=10,
        choices=Access.choices,
        default=Access.EVERYONE,
        db_default=Access.EVERYONE,
    )
    allowed_users = models.JSONField(_("persons who may talk to it"), default=list, db_default=EMPTY, blank=True)
    allowed_departments = models.JSONField(
        _("departments that may talk to it"), default=list, db_default=EMPTY, blank=True
    )
    allowed_chats = models.JSONField(_("groups that may talk to it"), default=list, db_default=EMPTY, blank=True)
    choosable_models = models.ManyToManyField(
        LanguageModel,
        verbose_name=_("models to choose from"),
        related_name="offered_by",
        blank=True,
        help_text=_("People choose one for their conversation with /model. Empty: there is no choice."),
    )
    reply_mode = models.CharField(_("replies"), max_length=10, choices=ReplyMode.choices, default=ReplyMode.STREAM)
    welcome_text = models.TextField(_("welcome text"), blank=True, max_length=2000)
    ai_notice = models.CharField(_("AI notice"), max_length=200, blank=True, default=default_ai_notice)
    too_late_after_s = models.PositiveIntegerField(
        _("too late after, seconds"), default=900, validators=[MinValueValidator(30)]
    )
    answers_together = models.BooleanField(
        _("answer waiting messages together"),
        default=False,
        help_text=_("Messages that a person sends while the bot is still busy get one common answer."),
    )
    max_waiting = models.PositiveIntegerField(
        _("most waiting messages"),
        default=1000,
        help_text=_("With more than this waiting, the bot says that it is busy instead of answering. 0: no limit."),
    )
    moderator = models.ForeignKey(
        LanguageModel,
        models.PROTECT,
        related_name="moderated_bots",
        null=True,
        blank=True,
        verbose_name=_("moderator"),
        help_text=_("A model that judges questions and answers. Empty: nobody does."),
    )
    moderation_instruction = models.TextField(
        _("what the moderator refuses"), blank=True, max_length=5000, default="", db_default=""
    )
    moderates = models.CharField(
        _("the moderator judges"),
        max_length=10,
        choices=Moderates.choices,
        default=Moderates.BOTH,
        db_default=Moderates.BOTH,
        help_text=_(
            "An answer that is judged is shown only when it is complete: it does not grow before people's eyes."
        ),
    )
    moderation_failure = models.CharField(
        _("when the moderator does not answer"),
        max_length=10,
        choices=OnFailure.choices,
        default=OnFailure.CLOSED,
        db_default=OnFailure.CLOSED,
    )
    moderation_timeout_s = models.PositiveSmallIntegerField(
        _("patience with the moderator, seconds"),
        default=10,
        db_default=10,
        validators=[MinValueValidator(1), MaxValueValidator(60)],
    )
    allowed_link_hosts = models.JSONField(_("hosts that links may lead to"), default=list, blank=True)
    rate_limit_per_user_per_minute = models.PositiveIntegerField(
        _("messages per person and minute"), default=20, help_text=_("0: no limit.")
    )
    daily_tokens_per_user = models.PositiveIntegerField(
        _("tokens per person and day"), default=0, help_text=_("0: no limit.")
    )
    daily_messages_per_user = models.PositiveIntegerField(
        _("messages per person and day"), default=0, db_default=0, help_text=_("0: no limit.")
    )
    daily_tokens = models.PositiveBigIntegerField(
        _("tokens per day, of all together"), default=0, db_default=0, help_text=_("0: no limit.")
    )
    daily_messages = models.PositiveIntegerField(
        _("messages per day, of all together"), default=0, db_default=0, help_text=_("0: no limit.")
    )
    max_parallel = models.PositiveIntegerField(
        _("answers at the same time"),
        default=0,
        db_default=0,
        help_text=_("More questions wait for their turn. 0: as many as the model takes."),
    )
    max_parallel_per_user = models.PositiveIntegerField(
        _("answers to one person at the same time"), default=0, db_default=0, help_text=_("0: no limit.")
    )
    keep_messages_days = models.PositiveIntegerField(
        _("keep messages, days"),
        default=0,
        db_default=0,
        validators=[MaxValueValidator(36_500)],
        help_text=_("Older messages are deleted with their files, and so are conversations without any. 0: kept."),
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name, verbose_name_plural = _("bot"), _("bots")
        ordering = ["name"]
        indexes = [models.Index(fields=["-created_at", "-id"], name="bot_newest")]

    def __str__(self) -> str:
        return self.name


def new_endpoint_key() -> str:
    """256 bits that cannot be guessed: for DingTalk the address is part of the authentication (rule W1)."""
    return secrets.token_urlsafe(32)


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def live(self) -> EndpointQuerySet:
        return self.filter(is_enabled=True, bot__is_enabled=True)

    def with_key(self, key: str) -> EndpointQuerySet:
        return self.filter(key_hash=lookup_hash(key))


class Endpoint(models.Model):
    team_paths = ("bot__team", "credential__team")

    class Mode(models.TextChoices):
        WEBHOOK = "webhook", _("the platform calls us (webhook)")
        STREAM = "stream", _("we hold a long connection")

    class UnconfirmedPolicy(models.TextChoices):
        ASK = "ask", _("leave it to the admin (never twice)")
        SEND_AGAIN = "send_again", _("send it again (never lost)")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    bot = models.ForeignKey(Bot, models.CASCADE, related_name="endpoints", verbose_name=_("bot"))
    credential = models.ForeignKey(
        PlatformCredential, models.PROTECT, related_name="endpoints", verbose_name=_("credential")
    )
    mode = models.CharField(_("mode"), max_length=10, choices=Mode.choices, default=Mode.WEBHOOK)
    unconfirmed_policy = models.CharField(
        _("when nobody knows whether a message arrived"),
        max_length=10,
        choices=UnconfirmedPolicy.choices,
        default=UnconfirmedPolicy.ASK,
        help_text=_("Only for messages that the platform gives no id for: DingTalk's plain messages."),
    )
    rate_limit_per_minute = models.PositiveIntegerField(
        _("callbacks per minute"),
        default=0,
        help_text=_("More are refused with 429, and the platform delivers them later. 0: no limit."),
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)
    chat_policies = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        editable=False,
        help_text="Group -> policy, of the groups that have one of their own: a copy of their rows, for the door.",
    )
    key = EncryptedTextField(_("address key"), default=new_endpoint_key, editable=False)
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    last_event_at = models.DateTimeField(_("last event"), null=True, editable=False)
    last_error = models.CharField(_("last error"), max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("endpoint"), _("endpoints")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["credential"],
                condition=models.Q(is_enabled=True),
                name="one_enabled_endpoint_per_credential",
                violation_error_message=_("This credential already has an enabled endpoint. Disable that one first."),
            )
        ]
        indexes = [models.Index(fields=["-created_at", "-id"], name="endpoint_newest")]

    def __str__(self) -> str:
        return f"{self.bot} · {self.credential}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.key_hash:
            self.key_hash = lookup_hash(self.key)
        super().save(*args, **kwargs)

    def group_policy_of(self, chat_id: str, bot: Bot) -> str:
        """When the bot answers in this group: the group's own policy, else the bot's. ``bot`` is this endpoint's own,
        which callers have at hand."""
        return str(self.chat_policies.get(chat_id) or bot.group_policy)

    @property
    def webhook_url(self) -> str:
        """The address to paste into the platform's console. Secret: whoever knows it may knock."""
        return f"{settings.PUBLIC_URL}/webhooks/{self.credential.platform}/{self.key}/"
