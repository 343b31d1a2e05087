"""``group-robots/``: webhooks into single groups, and pushing by them. Reading them needs the right to change them."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from bots.api.changing import ResourceViewSet
from bots.api.endpoints import require_one
from bots.api.secret_fields import FingerprintField, SecretField
from bots.api.visible import team_field
from bots.api.words import WordsField
from integrations import group_robots
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.models import GroupRobot
from monitoring import audit


class GroupRobotSerializer(serializers.ModelSerializer[GroupRobot]):
    team = team_field()
    webhook_url = SecretField(help_text="Needed to create; leaving it out later keeps it.")
    signing_secret = SecretField(allow_blank=True, help_text="Only for robots that want signed messages.")
    webhook_url_fingerprint = FingerprintField("webhook_url")
    signing_secret_fingerprint = FingerprintField("signing_secret")

    class Meta:
        model = GroupRobot
        fields = [
            "id",
            "name",
            "team",
            "platform",
            "webhook_url",
            "webhook_url_fingerprint",
            "signing_secret",
            "signing_secret_fingerprint",
            "is_enabled",
            "last_sent_at",
            "last_error",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["last_sent_at", "last_error"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row = self.instance if isinstance(self.instance, GroupRobot) else None
        platform = attrs.get("platform", row.platform if row else "")
        if row and platform != row.platform:
            raise serializers.ValidationError({"platform": _("A robot stays on its platform. Make another one.")})
        if row is None and not attrs.get("webhook_url"):
            raise serializers.ValidationError({"webhook_url": _("Copy it from the robot in the group's settings.")})
        if "webhook_url" in attrs:
            attrs["webhook_url"] = _checked(platform, attrs["webhook_url"])
        return attrs


def _checked(platform: str, given: str) -> str:
    try:
        return group_robots.checked_address(platform, given)
    except ValueError as problem:
        raise serializers.ValidationError({"webhook_url": str(problem)}) from None


class RobotPushSerializer(serializers.Serializer[Any]):
    """Exactly one text."""

    title = serializers.CharField(required=False, max_length=200, help_text="Heads the message.")
    text = WordsField(required=False)
    markdown = WordsField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        require_one(attrs, "text", "markdown")
        return attrs


class PushOutcomeSerializer(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(choices=["sent", "unknown"])
    detail = serializers.CharField(help_text="What the platform said. May be empty.")


class Refused(APIException):
    """The platform, or our own limit, did not take the message."""

    status_code = 502
    default_code = "not_sent"

    def __init__(self, problem: PlatformError) -> None:
        super().__init__(str(problem))
        if problem.retry_after_s:
            self.status_code, self.wait = 429, problem.retry_after_s  # DRF answers Retry-After


TOO_MANY = OpenApiResponse(description="The platform takes no more just now; `Retry-After` says how long to wait.")
NOT_SENT = OpenApiResponse(description="The platform refused it, or could not be reached; the message says why.")


class GroupRobotViewSet(ResourceViewSet):
    """Custom group robots. Their address and secret are never returned, only fingerprints."""

    queryset = GroupRobot.objects.select_related("team")
    serializer_class = GroupRobotSerializer
    required_scopes = {"read": "bots:write", "write": "bots:write", "push": "messages:write"}
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = ["platform", "name", "is_enabled"]

    @extend_schema(
        summary="Send a message into the group",
        request=RobotPushSerializer,
        responses={200: PushOutcomeSerializer, 202: PushOutcomeSerializer, 429: TOO_MANY, 502: NOT_SENT},
    )
    @action(detail=True, methods=["post"])
    def push(self, request: Request, pk: str) -> Response:
        """Sends at once and tells what became of it: 200 sent, 202 nobody knows, 429 try again later, 502 refused."""
        given = RobotPushSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        said = given.validated_data
        robot, title, text = self.get_object(), said.get("title", ""), said.get("text") or said["markdown"]
        try:
            group_robots.notify(robot, title, text, is_markdown="markdown" in said)
        except OutcomeUnknown as problem:
            _record(robot, "unknown")
            return Response({"outcome": "unknown", "detail": str(problem)}, status=202)
        except PlatformError as problem:
            _record(robot, "refused")
            raise Refused(problem) from problem
        _record(robot, "sent")
        return Response({"outcome": "sent", "detail": ""})


def _record(robot: GroupRobot, outcome: str) -> None:
    audit.record("grouprobot.pushed", target=robot, changes={"outcome": outcome})
