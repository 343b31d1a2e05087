"""``bots/``: what each bot is and how it answers."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from bots.api.changing import READ_AND_WRITE_BOTS, ResourceViewSet, count_of
from bots.api.visible import team_field
from bots.choice import models_of_another_queue, moderator_fault
from bots.models import Bot, Conversation, Endpoint
from bots.models.bot import LINK_HOST, LONGEST_ALLOWED, MOST_ALLOWED, MOST_LINK_HOSTS
from inference.models import LanguageModel


def check_host(value: str) -> None:
    if not LINK_HOST.fullmatch(value):
        raise serializers.ValidationError(_("Write a host name in lower case, like docs.example.com."))


def allowed(help_text: str) -> serializers.ListField:
    entry = serializers.CharField(max_length=LONGEST_ALLOWED)
    return serializers.ListField(child=entry, required=False, max_length=MOST_ALLOWED, help_text=help_text)


class BotSerializer(serializers.ModelSerializer[Bot]):
    model = serializers.SlugRelatedField(
        slug_field="name", queryset=LanguageModel.objects.all(), help_text="The model's name."
    )
    fallback_model = serializers.SlugRelatedField(
        slug_field="name",
        queryset=LanguageModel.objects.all(),
        required=False,
        allow_null=True,
        help_text="The name of the model that answers when the first one fails before anything was shown.",
    )
    team = team_field()
    moderator = serializers.SlugRelatedField(
        slug_field="name",
        queryset=LanguageModel.objects.all(),
        required=False,
        allow_null=True,
        help_text="The name of the model that judges questions and answers.",
    )
    word_lists = serializers.SlugRelatedField[Any](
        slug_field="name", many=True, read_only=True, help_text="Lists of this bot alone; change them in `word-lists/`."
    )
    allowed_link_hosts = serializers.ListField(
        child=serializers.CharField(max_length=253, validators=[check_host]),
        required=False,
        max_length=MOST_LINK_HOSTS,
        help_text="Links elsewhere are shown and cannot be clicked. Empty: all links stay, with their target visible.",
    )
    choosable_models = serializers.SlugRelatedField(
        slug_field="name",
        queryset=LanguageModel.objects.all(),
        many=True,
        required=False,
        help_text="Names of models that people may choose with /model, of the same queue as `model`.",
    )
    allowed_users = allowed("Persons who may talk to it, by their ids on the platform.")
    allowed_departments = allowed("Departments that may talk to it, by their ids on the platform.")
    allowed_chats = allowed("Groups in which everybody may talk to it, by their ids on the platform.")
    endpoints_count = serializers.IntegerField(read_only=True)
    conversations_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Bot
        fields = [
            "id",
            "slug",
            "name",
            "team",
            "model",
            "fallback_model",
            "system_prompt",
            "temperature",
            "top_p",
            "max_tokens",
            "history_messages",
            "context_scope",
            "group_policy",
            "access",
            "allowed_users",
            "allowed_departments",
            "allowed_chats",
            "choosable_models",
            "reply_mode",
            "welcome_text",
            "ai_notice",
            "too_late_after_s",
            "answers_together",
            "max_waiting",
            "allowed_link_hosts",
            "word_lists",
            "moderator",
            "moderation_instruction",
            "moderates",
            "moderation_failure",
            "moderation_timeout_s",
            "rate_limit_per_user_per_minute",
            "daily_messages_per_user",
            "daily_tokens_per_user",
            "max_parallel_per_user",
            "daily_messages",
            "daily_tokens",
            "max_parallel",
            "keep_messages_days",
            "is_enabled",
            "endpoints_count",
            "conversations_count",
            "created_at",
            "updated_at",
        ]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row = self.instance if isinstance(self.instance, Bot) else None
        model = attrs.get("model", row.model if row else None)
        choosable = attrs.get("choosable_models", row.choosable_models.all() if row else ())
        if foreign := models_of_another_queue(model, choosable):
            text = _("%(models)s: on another worker queue than the bot's model. Choose models of the same queue.")
            raise serializers.ValidationError({"choosable_models": text % {"models": ", ".join(foreign)}})
        if reason := moderator_fault(model, attrs.get("moderator", row.moderator if row else None)):
            raise serializers.ValidationError({"moderator": reason})
        return attrs


class BotViewSet(ResourceViewSet):
    """Bots, by their slugs. Deleting one deletes its endpoints and conversations."""

    queryset = (
        Bot.objects.select_related("model", "fallback_model", "moderator", "team")
        .prefetch_related("choosable_models", "word_lists")
        .annotate(endpoints_count=count_of(Endpoint, "bot"), conversations_count=count_of(Conversation, "bot"))
    )
    serializer_class = BotSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_field = "slug"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    filterset_fields = ["is_enabled", "model__name"]
