"""``conversations/`` and ``messages/``: what was said, how far each answer is, and trying again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from bots import discarding, retrying
from bots.api.changing import Conflict, count_of
from bots.models import Conversation, Feedback, Message
from bots.models.conversation import MessageQuerySet
from clawdbot_site.security.teams import TeamScoped, visible

MESSAGES = {"read": "messages:read", "write": "messages:write"}
UUID = "[0-9a-fA-F-]{32,36}"


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    bot = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Conversation
        fields = [
            "id",
            "bot",
            "endpoint",
            "platform",
            "chat_type",
            "chat_id",
            "user_id",
            "user_name",
            "context_started_at",
            "created_at",
        ]
        read_only_fields = fields


class ConversationFilter(django_filters.FilterSet):
    bot = django_filters.CharFilter(field_name="bot__slug", help_text="The bot's slug.")
    platform = django_filters.ChoiceFilter(choices=Conversation.Platform.choices)
    user = django_filters.CharFilter(method="by_user", help_text="The person's id on the platform, or name.")
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Conversation
        fields: list[str] = []

    def by_user(self, rows: QuerySet[Conversation], name: str, value: str) -> QuerySet[Conversation]:
        return rows.filter(Q(user_id=value) | Q(user_name=value))


class ConversationViewSet(TeamScoped, viewsets.ReadOnlyModelViewSet[Conversation]):
    """Conversations, newest first."""

    queryset = Conversation.objects.select_related("bot")
    serializer_class = ConversationSerializer
    required_scopes = MESSAGES
    filterset_class = ConversationFilter
    lookup_value_regex = UUID
    ordering = ("-created_at", "-id")


class MessageSerializer(serializers.ModelSerializer[Message]):
    error = serializers.SerializerMethodField()
    attachments = serializers.SerializerMethodField()
    feedback = serializers.SerializerMethodField()
    model = serializers.SerializerMethodField(help_text="Of a reply: the model that wrote it.")
    fallback_from = serializers.SerializerMethodField(
        help_text="Of a reply by the fallback model: which model failed before it, and why."
    )
    reply = serializers.UUIDField(read_only=True, allow_null=True, help_text="Of a question: its current answer.")

    class Meta:
        model = Message
        fields = [
            "id",
            "conversation",
            "platform",
            "role",
            "status",
            "text",
            "reply_to",
            "reply",
            "is_current",
            "sender_id",
            "attachments",
            "feedback",
            "attempts",
            "next_attempt_at",
            "error",
            "model",
            "fallback_from",
            "prompt_tokens",
            "completion_tokens",
            "finish_reason",
            "timings",
            "received_at",
            "answered_at",
            "delivered_at",
            "discarded_at",
        ]
        read_only_fields = fields

    def get_attachments(self, row: Message) -> list[dict[str, str]]:
        """What came with it: kind and name of each file."""
        return [{"kind": one["kind"], "name": one.get("name", "")} for one in row.details.get("attachments", ())]

    def get_feedback(self, row: Message) -> dict[str, int]:
        """Of an answer: how many found it helpful (`up`), how many not (`down`)."""
        return {vote: getattr(row, f"votes_{vote}", 0) for vote in Feedback.Vote.values}

    def get_model(self, row: Message) -> str:
        return str(row.details.get("model", ""))

    def get_fallback_from(self, row: Message) -> dict[str, str] | None:
        failed: dict[str, str] | None = row.details.get("fallback_from")
        return failed

    def get_error(self, row: Message) -> str:
        """Why it failed; a reply that did not arrive tells its question's reason."""
        if row.error or row.status not in Message.DEAD:
            return row.error
        return getattr(row, "question_error", None) or ""


def messages() -> MessageQuerySet:
    reply = Message.objects.filter(reply_to=OuterRef("pk"), is_current=True).values("pk")[:1]
    votes = {f"votes_{vote}": count_of(Feedback, "reply", vote=vote) for vote in Feedback.Vote.values}
    return Message.objects.annotate(question_error=F("reply_to__error"), reply=Subquery(reply), **votes)


@extend_schema_view(get=extend_schema(summary="List a conversation's messages, newest first"))
class ConversationMessagesView(generics.ListAPIView[Message]):
    serializer_class = MessageSerializer
    queryset = Message.objects.none()
    required_scopes = MESSAGES
    filter_backends: list[Any] = []
    ordering = ("-received_at", "-id")

    def get_queryset(self) -> QuerySet[Message]:
        conversations = visible(Conversation.objects.all(), self.request.auth)
        conversation = get_object_or_404(conversations, pk=self.kwargs["pk"])
        return messages().filter(conversation=conversation)


class MessageViewSet(TeamScoped, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Message]):
    """Single messages."""

    queryset = messages()
    serializer_class = MessageSerializer
    required_scopes = MESSAGES
    lookup_value_regex = UUID

    @extend_schema(
        summary="Try a failed or unconfirmed message again", request=None, responses={202: MessageSerializer}
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Of a reply, its question is tried again. Anything that did not fail is answered 409."""
        return self._do(retrying.retry, status=202)

    @extend_schema(summary="Discard a failed or unconfirmed message", request=None, responses=MessageSerializer)
    @action(detail=True, methods=["post"])
    def discard(self, request: Request, pk: str) -> Response:
        """It is no dead letter any more and stays in the record. Of a reply, its question is discarded."""
        return self._do(discarding.discard)

    @extend_schema(summary="Put a discarded message back", request=None, responses=MessageSerializer)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, pk: str) -> Response:
        return self._do(discarding.restore)

    def _do(self, act: Callable[[Message], Message], status: int = 200) -> Response:
        """Raises Conflict, in words, where the message is in another state."""
        try:
            row = act(self.get_object())
        except (retrying.NotRetriable, discarding.NotDiscardable) as error:
            raise Conflict(str(error)) from None
        return Response(self.get_serializer(messages().get(pk=row.pk)).data, status=status)
