"""``usage/``: tokens and costs by day, bot and model; as JSON or as a table for spreadsheets."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request

from bots import costs
from bots.api.conversations import MESSAGES
from bots.models import ModelUsage
from monitoring import audit
from monitoring.api import JsonOnly
from monitoring.filtering import StrictFilterBackend


class ModelUsageSerializer(serializers.ModelSerializer[ModelUsage]):
    class Meta:
        model = ModelUsage
        fields = ["day", "bot", "model", *costs.FIELDS, "currency", "updated_at"]
        read_only_fields = fields


class UsageFilter(django_filters.FilterSet):
    bot = django_filters.CharFilter(help_text="The bot's slug.")
    model = django_filters.CharFilter(help_text="The model's name.")
    since = django_filters.DateFilter(field_name="day", lookup_expr="gte", help_text="The first day.")
    until = django_filters.DateFilter(field_name="day", lookup_expr="lte", help_text="The last day.")

    class Meta:
        model = ModelUsage
        fields: list[str] = []


@extend_schema_view(
    list=extend_schema(
        summary="List or export usage and costs, newest first",
        parameters=[
            OpenApiParameter("format", str, enum=["json", "csv"], description="csv: all of it, as a download.")
        ],
        responses={(200, "application/json"): ModelUsageSerializer(many=True), (200, "text/csv"): OpenApiTypes.STR},
    )
)
class UsageViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[ModelUsage]):
    """What each bot and model used and cost on each day of the site's time zone. Counted every five minutes."""

    queryset = ModelUsage.objects.all()
    serializer_class = ModelUsageSerializer
    required_scopes = MESSAGES
    filter_backends = [StrictFilterBackend]
    filterset_class = UsageFilter
    content_negotiation_class = JsonOnly
    ordering = ("-day", "-id")

    def get_queryset(self) -> QuerySet[ModelUsage]:
        return costs.visible_usage(super().get_queryset(), self.request.auth)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]  # CSV streams: no DRF answer
        wanted = request.query_params.get("format", "json")
        if wanted == "csv":
            audit.record("modelusage.exported")
            return costs.csv_response(self.filter_queryset(self.get_queryset()))
        if wanted != "json":
            raise serializers.ValidationError({"format": ["Choose json or csv."]})
        return super().list(request, *args, **kwargs)
