"""``bots/``: what each bot is and how it answers."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from bots.api.changing import READ_AND_WRITE_BOTS, ResourceViewSet, count_of
from bots.models import Bot, Conversation, Endpoint
from bots.models.bot import LINK_HOST, MOST_LINK_HOSTS
from inference.models import LanguageModel


def check_host(value: str) -> None:
    if not LINK_HOST.fullmatch(value):
        raise serializers.ValidationError(_("Write a host name in lower case, like docs.example.com."))


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
    allowed_link_hosts = serializers.ListField(
        child=serializers.CharField(max_length=253, validators=[check_host]),
        required=False,
        max_length=MOST_LINK_HOSTS,
        help_text="Empty: links in answers stay links, always with their target visible.",
    )
    endpoints_count = serializers.IntegerField(read_only=True)
    conversations_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Bot
        fields = [
            "id",
            "slug",
            "name",
            "model",
            "fallback_model",
            "system_prompt",
            "temperature",
            "top_p",
            "max_tokens",
            "history_messages",
            "context_scope",
            "group_policy",
            "reply_mode",
            "welcome_text",
            "ai_notice",
            "too_late_after_s",
            "answers_together",
            "max_waiting",
            "allowed_link_hosts",
            "rate_limit_per_user_per_minute",
            "daily_tokens_per_user",
            "is_enabled",
            "endpoints_count",
            "conversations_count",
            "created_at",
            "updated_at",
        ]


class BotViewSet(ResourceViewSet):
    """Bots, by their slugs. Deleting one deletes its endpoints and conversations."""

    queryset = Bot.objects.select_related("model", "fallback_model").annotate(
        endpoints_count=count_of(Endpoint, "bot"), conversations_count=count_of(Conversation, "bot")
    )
    serializer_class = BotSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_field = "slug"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    filterset_fields = ["is_enabled", "model__name"]
