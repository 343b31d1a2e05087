"""REST for auditors, and the base classes that write an audit entry for every change made by REST.

Views name ``required_scopes``; the classes that check them come from the settings.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from monitoring import audit, exports, selecting
from monitoring.alerting import handling
from monitoring.context import current
from monitoring.filtering import StrictFilterBackend
from monitoring.models import Alert, AuditLog, Silence
from monitoring.models.alerts import check_until


class AuditedMixin:
    """Writes what a view creates, changes and deletes, in one transaction with the change.

    A view that sets values itself calls ``super().perform_create(serializer, owner=...)``, not ``serializer.save()``.
    """

    def perform_create(self, serializer: Any, **values: Any) -> None:
        with transaction.atomic():
            audit.record_created(serializer.save(**values))

    def perform_update(self, serializer: Any, **values: Any) -> None:
        with transaction.atomic():
            before = audit.snapshot(serializer.instance, many_to_many=True)
            audit.record_changed(serializer.save(**values), before)

    def perform_destroy(self, instance: Any) -> None:
        with transaction.atomic():
            audit.record_deleted(instance)
            instance.delete()


class AuditedModelViewSet(AuditedMixin, viewsets.ModelViewSet[Any]):
    """A ModelViewSet whose every change leaves an audit entry."""


class AuditLogSerializer(serializers.ModelSerializer[AuditLog]):
    class Meta:
        model = AuditLog
        fields = list(exports.COLUMNS)
        read_only_fields = fields


class AlertSerializer(serializers.ModelSerializer[Alert]):
    class Meta:
        model = Alert
        fields = [
            "id",
            "rule",
            "subject",
            "severity",
            "summary",
            "opened_at",
            "closed_at",
            "acknowledged_at",
            "acknowledged_by",
            "details",
        ]
        read_only_fields = fields


class SilenceSerializer(serializers.ModelSerializer[Silence]):
    class Meta:
        model = Silence
        fields = ["id", "rule", "subject", "until", "reason", "created_by", "created_at"]
        read_only_fields = ["rule", "subject", "created_by", "created_at"]

    def validate_until(self, until: datetime) -> datetime:
        try:
            check_until(until)
        except ValidationError as problem:
            raise serializers.ValidationError(problem.messages) from None
        return until


class AuditLogFilter(django_filters.FilterSet):
    action = django_filters.CharFilter(method="by_action", help_text="`bot.created`, or `bot.` for all that begins so.")
    actor = django_filters.CharFilter(method="by_actor", help_text="Id or name of a person or client, or a kind.")
    target = django_filters.CharFilter(
        method="by_target", help_text="Id or label of the target, its kind, or both: `bots.bot:<id>`."
    )
    outcome = django_filters.ChoiceFilter(choices=AuditLog.Outcome.choices)
    address = django_filters.CharFilter()
    request_id = django_filters.CharFilter()
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = AuditLog
        fields: list[str] = []

    def by_action(self, entries: QuerySet[AuditLog], name: str, value: str) -> QuerySet[AuditLog]:
        return selecting.by_action(entries, value)

    def by_actor(self, entries: QuerySet[AuditLog], name: str, value: str) -> QuerySet[AuditLog]:
        return selecting.by_actor(entries, value)

    def by_target(self, entries: QuerySet[AuditLog], name: str, value: str) -> QuerySet[AuditLog]:
        return selecting.by_target(entries, value)


class AlertFilter(django_filters.FilterSet):
    is_open = django_filters.BooleanFilter(field_name="closed_at", lookup_expr="isnull")

    class Meta:
        model = Alert
        fields = ["rule", "severity"]


class JsonOnly(BaseContentNegotiation):
    """Answers in JSON whatever was asked for, so that ``?format=`` is ours and errors keep their one shape."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


EXPORT = OpenApiParameter("format", str, enum=["json", *exports.FORMATS], description="csv, jsonl: all, as a download.")
DOWNLOADS = {(200, "text/csv"): OpenApiTypes.STR, (200, "application/x-ndjson"): OpenApiTypes.STR}


@extend_schema_view(
    list=extend_schema(
        summary="List or export audit entries, newest first",
        parameters=[EXPORT],
        responses={(200, "application/json"): AuditLogSerializer(many=True), **DOWNLOADS},
    ),
    retrieve=extend_schema(summary="Read one audit entry"),
)
class AuditLogViewSet(viewsets.ReadOnlyModelViewSet[AuditLog]):
    """The audit log. Reading it is an event as well; nobody changes it."""

    queryset = AuditLog.objects.all()
    serializer_class = AuditLogSerializer
    required_scopes = {"read": "audit:read"}
    filter_backends = [StrictFilterBackend]
    filterset_class = AuditLogFilter
    content_negotiation_class = JsonOnly
    ordering = ("-created_at", "-id")

    def list(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]  # streams too
        wanted = request.query_params.get("format", "json")
        if wanted in exports.FORMATS:
            return exports.response(request._request, self.filter_queryset(self.get_queryset()), wanted)
        if wanted != "json":
            raise serializers.ValidationError({"format": [f"Choose one of json, {', '.join(exports.FORMATS)}."]})
        audit.record_read("auditlog.listed")
        return super().list(request, *args, **kwargs)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]  # streams too
        response = super().retrieve(request, *args, **kwargs)
        audit.record_read("auditlog.read", target_label=str(kwargs.get("pk", "")))
        return response


@extend_schema_view(
    list=extend_schema(summary="List alerts, open and past, newest first"),
    retrieve=extend_schema(summary="Read one alert", responses={200: AlertSerializer, 404: OpenApiResponse()}),
)
class AlertViewSet(viewsets.ReadOnlyModelViewSet[Alert]):
    """What a person should look at."""

    queryset = Alert.objects.all()
    serializer_class = AlertSerializer
    required_scopes = {"read": "audit:read", "write": "bots:write"}
    filter_backends = [StrictFilterBackend]
    filterset_class = AlertFilter
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    ordering = ("-opened_at", "-id")

    @extend_schema(summary="Say that somebody looks after it", request=None, responses=AlertSerializer)
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Nobody is reminded of it any more. A repeat changes nothing."""
        alert = self.get_object()
        handling.acknowledge(alert, current_label())
        alert.refresh_from_db()
        return Response(AlertSerializer(alert).data)

    @extend_schema(
        summary="Tell nobody of it until a moment", request=SilenceSerializer, responses={201: SilenceSerializer}
    )
    @action(detail=True, methods=["post"])
    def silence(self, request: Request, pk: str) -> Response:
        """Of its rule and subject, also when it opens again. Silences are lifted in the admin."""
        alert = self.get_object()
        given = SilenceSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        with transaction.atomic():
            row = given.save(rule=alert.rule, subject=alert.subject, created_by=current_label())
            audit.record_created(row)
        return Response(SilenceSerializer(row).data, status=201)


def current_label() -> str:
    """Who calls, as the audit log names them."""
    return current().actor.label[:200]


def register(router: BaseRouter) -> None:
    """Hang these resources below ``/api/v1/``."""
    router.register("audit-logs", AuditLogViewSet, basename="audit-log")
    router.register("alerts", AlertViewSet, basename="alert")
