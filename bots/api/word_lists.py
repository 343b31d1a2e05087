"""``word-lists/``: words and patterns that bots do not take or say. The list itself is its plain text."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from bots.api.changing import READ_AND_WRITE_BOTS, ResourceViewSet
from bots.api.visible import VisibleSlug
from bots.models import Bot, WordList
from bots.models.words import LONGEST_LIST, check_rules
from bots.words import rules, trying
from clawdbot_site.security.teams import without_foreign
from monitoring import audit


class WordListSerializer(serializers.ModelSerializer[WordList]):
    bots = VisibleSlug(
        slug_field="slug", queryset=Bot.objects.all(), many=True, required=False, help_text="Slugs of who uses it."
    )
    text = serializers.CharField(
        max_length=LONGEST_LIST,
        trim_whitespace=False,
        validators=[check_rules],
        help_text="A word or a /pattern/ a line; lines that begin with # are comments.",
    )

    class Meta:
        model = WordList
        fields = [
            "id",
            "name",
            "action",
            "place",
            "text",
            "whole_words",
            "is_for_all",
            "bots",
            "is_enabled",
            "note",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["created_at", "updated_at"]


class TrySerializer(serializers.Serializer[Any]):
    text = serializers.CharField(max_length=trying.LONGEST_TEXT, trim_whitespace=False)


class FoundSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    rule = serializers.CharField()
    text = serializers.CharField()
    start = serializers.IntegerField()
    end = serializers.IntegerField()


class TriedSerializer(serializers.Serializer[Any]):
    found = FoundSerializer(many=True)
    shown = serializers.CharField(help_text="The text as it would pass; empty where it is blocked.")


class WordListViewSet(ResourceViewSet):
    """Lists of words and patterns, each for some bots or for all."""

    queryset = WordList.objects.prefetch_related("bots")
    serializer_class = WordListSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = {"action": ["exact"], "is_enabled": ["exact"], "bots__slug": ["exact"]}

    def get_queryset(self) -> QuerySet[WordList]:
        """Not the lists of bots that another team owns."""
        return without_foreign(super().get_queryset(), self.request.auth, "bots", Bot.objects.all())

    @extend_schema(summary="What a list would do to a text", request=TrySerializer, responses=TriedSerializer)
    @action(detail=True, methods=["post"], url_path="try")
    def try_text(self, request: Request, pk: str | None = None) -> Response:
        row = self.get_object()
        given = TrySerializer(data=request.data)
        given.is_valid(raise_exception=True)
        audit.record_read("wordlist.tried", target=row)
        try:
            outcome = trying.outcome(row, given.validated_data["text"])
        except rules.BadRule as error:
            raise serializers.ValidationError({"text": [str(error)]}) from None
        return Response(TriedSerializer(outcome).data)

    @extend_schema(summary="A list as a plain text file", responses={(200, "text/plain"): OpenApiTypes.STR})
    @action(detail=True, methods=["get"], url_path="text")
    def as_text(self, request: Request, pk: str | None = None) -> HttpResponse:
        row = self.get_object()
        audit.record_read("wordlist.exported", target=row)
        return HttpResponse(row.text, content_type="text/plain; charset=utf-8")
