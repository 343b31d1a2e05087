"""``feedback/``: what people think of the answers."""

from __future__ import annotations

from typing import Any

import django_filters
from rest_framework import serializers, viewsets

from bots.api.conversations import MESSAGES, UUID
from bots.models import Conversation, Feedback
from clawdbot_site.security.teams import TeamScoped


class FeedbackSerializer(serializers.ModelSerializer[Feedback]):
    bot = serializers.SlugRelatedField[Any](source="reply.conversation.bot", slug_field="slug", read_only=True)
    question = serializers.UUIDField(source="reply.reply_to_id", read_only=True, allow_null=True)

    class Meta:
        model = Feedback
        fields = ["id", "bot", "question", "reply", "user_id", "vote", "created_at", "updated_at"]
        read_only_fields = fields


class FeedbackFilter(django_filters.FilterSet):
    bot = django_filters.CharFilter(field_name="reply__conversation__bot__slug", help_text="The bot's slug.")
    platform = django_filters.ChoiceFilter(
        field_name="reply__conversation__platform", choices=Conversation.Platform.choices
    )
    vote = django_filters.ChoiceFilter(choices=Feedback.Vote.choices)
    user = django_filters.CharFilter(field_name="user_id", help_text="The person's id on the platform.")
    reply = django_filters.UUIDFilter(field_name="reply_id", help_text="The answer's id.")
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Feedback
        fields: list[str] = []


class FeedbackViewSet(TeamScoped, viewsets.ReadOnlyModelViewSet[Feedback]):
    """Thumbs up and down, one for each person and answer, newest first."""

    queryset = Feedback.objects.select_related("reply__conversation__bot")
    serializer_class = FeedbackSerializer
    required_scopes = MESSAGES
    filterset_class = FeedbackFilter
    lookup_value_regex = UUID
    ordering = ("-created_at", "-id")
