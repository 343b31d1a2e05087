"""``dead-letters/``: what failed and waits for a person, listed, and tried again or discarded in bulk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import django_filters
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from bots import discarding, retrying
from bots.api.conversations import MESSAGES, MessageSerializer, messages
from bots.models import Conversation, Message
from clawdbot_site.security.parsing import BoundedJSONParser
from clawdbot_site.security.teams import TeamScoped, visible

MOST_IDS = 200


class IdsSerializer(serializers.Serializer[Any]):
    ids = serializers.ListField(child=serializers.UUIDField(), allow_empty=False, max_length=MOST_IDS)


class RefusedSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    reason = serializers.CharField()


class OutcomeSerializer(serializers.Serializer[Any]):
    done = serializers.ListField(child=serializers.UUIDField(), help_text="Ids as they were sent.")
    refused = RefusedSerializer(many=True)


class DeadLetterFilter(django_filters.FilterSet):
    bot = django_filters.CharFilter(field_name="conversation__bot__slug", help_text="The bot's slug.")
    platform = django_filters.ChoiceFilter(choices=Conversation.Platform.choices)
    status = django_filters.ChoiceFilter(choices=[(one.value, one.label) for one in Message.DEAD])
    discarded = django_filters.BooleanFilter(help_text="true: those that were discarded, instead of the others.")

    class Meta:
        model = Message
        fields: list[str] = []

    def filter_queryset(self, queryset: Any) -> Any:
        wants_discarded = self.form.cleaned_data.pop("discarded")
        discarded = queryset.filter(discarded_at__isnull=False, status__in=Message.DEAD)
        return super().filter_queryset(discarded if wants_discarded else queryset.dead_letters())


@extend_schema_view(list=extend_schema(summary="List dead letters, newest first"))
class DeadLetterViewSet(TeamScoped, mixins.ListModelMixin, viewsets.GenericViewSet[Message]):
    """What failed, or was never confirmed, and is not tried again by itself."""

    queryset = messages()
    serializer_class = MessageSerializer
    required_scopes = MESSAGES
    parser_classes = [BoundedJSONParser]
    filterset_class = DeadLetterFilter
    ordering = ("-received_at", "-id")

    @extend_schema(summary="Try dead letters again", request=IdsSerializer, responses=OutcomeSerializer)
    @action(detail=False, methods=["post"], filterset_class=None, pagination_class=None)
    def retry(self, request: Request) -> Response:
        """Each by itself: one that cannot be tried again does not hold up the others."""
        return self._each(request, retrying.retry)

    @extend_schema(summary="Discard dead letters", request=IdsSerializer, responses=OutcomeSerializer)
    @action(detail=False, methods=["post"], filterset_class=None, pagination_class=None)
    def discard(self, request: Request) -> Response:
        """They are not tried again and leave the list; `messages/<id>/restore/` puts one back."""
        return self._each(request, discarding.discard)

    def _each(self, request: Request, act: Callable[[Message], Message]) -> Response:
        given = IdsSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        ids: list[UUID] = list(dict.fromkeys(given.validated_data["ids"]))
        found = visible(Message.objects.defer("session_url"), request.auth).in_bulk(ids)
        reasons = {pk: _reason_against(found.get(pk), act) for pk in ids}
        refused = [{"id": pk, "reason": reason} for pk, reason in reasons.items() if reason]
        outcome = {"done": [pk for pk, reason in reasons.items() if not reason], "refused": refused}
        return Response(OutcomeSerializer(outcome).data)


def _reason_against(row: Message | None, act: Callable[[Message], Message]) -> str:
    """Empty when it was done."""
    if row is None:
        return _("There is no such message.")
    try:
        act(row)
    except (retrying.NotRetriable, discarding.NotDiscardable) as error:
        return str(error)
    return ""
