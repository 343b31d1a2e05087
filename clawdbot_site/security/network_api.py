"""Network rules over REST, for who holds the scope ``admin``: one by one, or as a list."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from clawdbot_site.security import rule_lists
from clawdbot_site.security.models import IPRule
from clawdbot_site.security.models.clients import Scope
from clawdbot_site.security.parsing import BoundedJSONParser
from clawdbot_site.security.rule_lists import Reading
from clawdbot_site.security.serializers import (
    LOCKOUT,
    IPRuleSerializer,
    RuleImportSerializer,
    RuleReadingSerializer,
    person_of,
    would_lock_out,
)
from clawdbot_site.security.throttling import address_of
from monitoring.api import AuditedModelViewSet

CONFIRM = OpenApiParameter(
    "confirm_lockout", bool, description="Needed to delete a rule without which you would be refused yourself."
)
CSV = {(200, "text/csv"): OpenApiTypes.STR}


class ListParser(BoundedJSONParser):
    most_bytes: ClassVar[int] = rule_lists.MOST_BYTES


class IPRuleFilter(django_filters.FilterSet):
    endpoint_id = django_filters.UUIDFilter()
    automatic = django_filters.BooleanFilter(field_name="is_automatic")
    dry_run = django_filters.BooleanFilter(field_name="is_dry_run")

    class Meta:
        model = IPRule
        fields = ["action", "scope", "network"]


@extend_schema_view(destroy=extend_schema(parameters=[CONFIRM]))
class IPRuleViewSet(AuditedModelViewSet):
    """Which networks may call, and which may not. A change works everywhere within two seconds."""

    queryset = IPRule.objects.select_related("created_by")
    serializer_class = IPRuleSerializer
    required_scopes = {"read": Scope.ADMIN.value, "write": Scope.ADMIN.value}
    filterset_class = IPRuleFilter
    ordering = ("-created_at", "-id")

    def perform_destroy(self, instance: IPRule) -> None:
        address = address_of(self.request)
        is_confirmed = self.request.query_params.get("confirm_lockout", "").lower() in ("true", "1")
        if not is_confirmed and would_lock_out(address, instance, is_deleted=True):
            raise serializers.ValidationError({"confirm_lockout": LOCKOUT % {"address": address}})
        super().perform_destroy(instance)

    @extend_schema(
        summary="Import network rules from a list or CSV",
        request=RuleImportSerializer,
        responses={200: RuleReadingSerializer, 201: RuleReadingSerializer},
    )
    @action(detail=False, methods=["post"], url_path="import", parser_classes=[ListParser])
    def import_list(self, request: Request) -> Response:
        """All lines or none. With `preview` nothing is changed, and the answer tells what would be."""
        given = RuleImportSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        data, address = given.validated_data, address_of(request)
        reading = rule_lists.read(data["text"], data)
        locks_out = not reading.problem_count and rule_lists.would_lock_out(reading, address)
        if data["preview"]:
            return Response(_shown(reading, locks_out))
        _check(reading, locks_out and not data["confirm_lockout"], address)
        rule_lists.store(reading, person_of(request))
        return Response(_shown(reading, locks_out), status=201)

    @extend_schema(
        summary="Export network rules as CSV", responses={(200, "text/csv"): OpenApiTypes.STR}, filters=False
    )
    @action(detail=False, methods=["get"], url_path="export", pagination_class=None)
    def export_list(self, request: Request) -> HttpResponse:
        """Those in force that a person made, in the form that an import takes."""
        return download()


def download() -> HttpResponse:
    name = f"ip-rules-{timezone.now():%Y%m%d-%H%M%S}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(rule_lists.exported(), content_type="text/csv; charset=utf-8", headers=headers)


def _check(reading: Reading, is_unconfirmed: bool, address: str) -> None:
    """Raises ValidationError, with a text for each bad line."""
    if reading.problem_count:
        told = [_("Line %(line)s: %(message)s") % vars_of(one) if one.line else one.message for one in reading.problems]
        raise serializers.ValidationError({"text": told})
    if is_unconfirmed:
        raise serializers.ValidationError({"confirm_lockout": LOCKOUT % {"address": address}})


def vars_of(problem: rule_lists.Problem) -> dict[str, Any]:
    return {"line": problem.line, "message": problem.message}


def _shown(reading: Reading, locks_out: bool) -> dict[str, Any]:
    counts = {"rules": len(reading.rules), "existing": reading.existing, "problem_count": reading.problem_count}
    return {**counts, "problems": [vars_of(one) for one in reading.problems], "locks_out": locks_out}
