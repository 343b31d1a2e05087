"""``endpoints/``: bots joined to platform apps, and pushing through them."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bots import pushes
from bots.api.changing import READ_AND_WRITE_BOTS, Conflict, ResourceViewSet
from bots.api.visible import VisibleKey, VisibleSlug
from bots.api.words import WordsField
from bots.models import Bot, Endpoint, Message
from clawdbot_site.security.parsing import BoundedJSONParser
from clawdbot_site.security.teams import visible
from integrations.models import PlatformCredential
from monitoring import audit


class EndpointSerializer(serializers.ModelSerializer[Endpoint]):
    bot = VisibleSlug(slug_field="slug", queryset=Bot.objects.all(), help_text="The bot's slug.")
    credential = VisibleKey(queryset=PlatformCredential.objects.all())
    platform = serializers.CharField(source="credential.platform", read_only=True)
    key = serializers.SerializerMethodField()
    webhook_url = serializers.SerializerMethodField()

    class Meta:
        model = Endpoint
        fields = [
            "id",
            "bot",
            "credential",
            "platform",
            "mode",
            "unconfirmed_policy",
            "rate_limit_per_minute",
            "is_enabled",
            "key",
            "webhook_url",
            "last_event_at",
            "last_error",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["last_event_at", "last_error"]
        validators: list[Any] = []  # one enabled endpoint for each credential: checked below, in words

    def get_key(self, row: Endpoint) -> str | None:
        """Shown only to who may change the endpoint."""
        return row.key if self._may_change() else None

    def get_webhook_url(self, row: Endpoint) -> str | None:
        """The address for the platform's console; a secret, so shown only to who may change the endpoint."""
        return row.webhook_url if self._may_change() else None

    def _may_change(self) -> bool:
        return sees_addresses(self.context.get("request"))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row = self.instance if isinstance(self.instance, Endpoint) else None
        credential: PlatformCredential = attrs["credential"] if "credential" in attrs or row is None else row.credential
        is_enabled = attrs.get("is_enabled", row.is_enabled if row else True)
        enabled = Endpoint.objects.filter(credential=credential, is_enabled=True)
        if is_enabled and (enabled.exclude(pk=row.pk) if row else enabled).exists():
            text = _("This credential already has an enabled endpoint. Disable that one first.")
            raise serializers.ValidationError({"credential": text})
        return attrs


def sees_addresses(request: Request | None) -> bool:
    return "bots:write" in getattr(getattr(request, "auth", None), "scopes", ())


class EndpointViewSet(ResourceViewSet):
    """Endpoints. A credential has at most one that is enabled."""

    queryset = Endpoint.objects.select_related("bot", "credential")
    serializer_class = EndpointSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = {"bot__slug": ["exact"], "credential": ["exact"], "mode": ["exact"], "is_enabled": ["exact"]}

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        if sees_addresses(request):
            audit.record_read("endpoint.address_read", target_label="list")
        return super().list(request, *args, **kwargs)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        if sees_addresses(request):
            audit.record_read("endpoint.address_read", target=self.get_object())
        return super().retrieve(request, *args, **kwargs)


class PushSerializer(serializers.Serializer[Any]):
    """Exactly one place and exactly one text."""

    chat_id = serializers.CharField(required=False, max_length=200)
    user_id = serializers.CharField(required=False, max_length=200)
    text = WordsField(required=False)
    markdown = WordsField(required=False)
    idempotency_key = serializers.CharField(
        required=False, max_length=pushes.LONGEST_KEY, help_text="The same key twice is one push."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        require_one(attrs, "chat_id", "user_id")
        require_one(attrs, "text", "markdown")
        return attrs

    def save_for(self, endpoint: Endpoint) -> Message:
        given = self.validated_data
        return push(endpoint, given, given.get("idempotency_key", ""))


def push(endpoint: Endpoint, given: dict[str, Any], key: str) -> Message:
    """Raises Conflict when the endpoint, or its bot, is switched off."""
    if not (endpoint.is_enabled and endpoint.bot.is_enabled):
        raise Conflict(_("The endpoint or its bot is disabled. Enable both, then push again."))
    where = {name: given.get(name, "") for name in ("chat_id", "user_id")}
    text = given.get("text") or given["markdown"]
    return pushes.accept(endpoint, text, key=key, is_markdown="markdown" in given, **where)


def require_one(given: dict[str, Any], *names: str) -> None:
    if sum(name in given for name in names) != 1:
        text = _("Send exactly one of %(names)s.") % {"names": ", ".join(names)}
        raise serializers.ValidationError({names[0]: text})


class PushedSerializer(serializers.ModelSerializer[Message]):
    class Meta:
        model = Message
        fields = ["id", "status"]


class PushView(APIView):
    required_scopes = {"write": "messages:write"}
    parser_classes = [BoundedJSONParser]

    @extend_schema(
        summary="Send a message to a chat or a person", request=PushSerializer, responses={202: PushedSerializer}
    )
    def post(self, request: Request, pk: str) -> Response:
        """The message is stored when this answers; `messages/<id>/` tells how far it is."""
        endpoints = visible(Endpoint.objects.select_related("bot", "credential"), request.auth)
        endpoint = get_object_or_404(endpoints, pk=pk)
        given = PushSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(PushedSerializer(given.save_for(endpoint)).data, status=202)
