"""``POST hooks/<key>/``: the door for systems that can only call a URL. The key is an endpoint's, and a secret.

With the headers of Standard Webhooks (https://www.standardwebhooks.com, read 2025-06) the body is checked against its
signature, and a repeated id is done once. The signing secret is the key itself: a Standard Webhooks library takes it as
``whsec_`` and the key's characters in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from io import BytesIO
from typing import Any

from django.http import Http404
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bots import web
from bots.api import answers
from bots.api.endpoints import PushedSerializer, push, require_one
from bots.api.words import WordsField
from bots.drafts import Accepted, Draft
from bots.models import Conversation, Endpoint
from clawdbot_site.security.parsing import BoundedJSONParser, TooLarge
from monitoring import audit
from monitoring.context import Actor, bind
from monitoring.ids import uuid7

MOST_SKEW_S = 300
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
LONGEST_ID = 100
NOBODYS_KEY = secrets.token_urlsafe(32)


class HookSerializer(serializers.Serializer[Any]):
    """A ``text`` (or ``markdown``) for a chat or a person, or a ``question`` to the bot."""

    text = WordsField(required=False)
    markdown = WordsField(required=False)
    chat_id = serializers.CharField(required=False, max_length=200)
    user_id = serializers.CharField(required=False, max_length=200)
    question = WordsField(required=False)
    conversation = serializers.UUIDField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        require_one(attrs, "text", "markdown", "question")
        if "question" not in attrs:
            require_one(attrs, "chat_id", "user_id")
        return attrs


class HookAnswerSerializer(PushedSerializer):
    """Of a push ``id`` and ``status``; of a question ``message_id`` and ``conversation``."""

    message_id = serializers.UUIDField(required=False)
    conversation = serializers.UUIDField(required=False)

    class Meta(PushedSerializer.Meta):
        fields = [*PushedSerializer.Meta.fields, "message_id", "conversation"]


SIGNED = [OpenApiParameter(name, str, OpenApiParameter.HEADER, description="Standard Webhooks") for name in HEADERS]


class InboundHook(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]  # the key in the address is the proof
    parser_classes = [BoundedJSONParser]

    def get_authenticate_header(self, request: Request) -> str:
        return 'Signature realm="ClawdBot"'  # without it DRF answers 403 instead of 401

    @extend_schema(
        summary="Push or ask by webhook",
        auth=[],
        parameters=SIGNED,
        request=HookSerializer,
        responses={202: HookAnswerSerializer},
    )
    def post(self, request: Request, key: str) -> Response:
        """Answers as soon as the message is stored; `messages/<id>/` tells what became of it."""
        body = _body(request)
        endpoint = _endpoint(request, body, key)
        webhook_id = _check_signature(request, body, endpoint, key)
        given = HookSerializer(data=BoundedJSONParser().parse(BytesIO(body)))
        given.is_valid(raise_exception=True)
        with bind(actor=Actor("client", str(endpoint.pk), f"hook of {endpoint}")):
            return Response(_take(endpoint, given.validated_data, webhook_id), status=202)


def _endpoint(request: Request, body: bytes, key: str) -> Endpoint:
    """An unknown key costs as much work as a wrong signature, and is noted (rule W7). Raises Http404."""
    related = "bot__model", "credential"
    endpoint = Endpoint.objects.live().with_key(key).select_related(*related).first()
    if endpoint is None:
        _problem(body, *_signed_with(request), NOBODYS_KEY)
        reason = "key: no such address, or it is disabled"
        audit.record_refusal("webhook.rejected", target_label="/api/v1/hooks/", reason=reason)
        raise Http404
    return endpoint


def _body(request: Request) -> bytes:
    """As it came, for its signature. Raises TooLarge."""
    body: bytes = request.stream.read(BoundedJSONParser.most_bytes + 1) if request.stream else b""
    if len(body) > BoundedJSONParser.most_bytes:
        raise TooLarge
    return body


def _take(endpoint: Endpoint, given: dict[str, Any], webhook_id: str) -> dict[str, Any]:
    if "question" not in given:
        return dict(PushedSerializer(push(endpoint, given, webhook_id)).data)
    accepted: Accepted = answers.keep(_question(endpoint, given, webhook_id))
    return {"message_id": str(accepted.message_id), "conversation": str(accepted.conversation_id)}


def _question(endpoint: Endpoint, given: dict[str, Any], webhook_id: str) -> Draft:
    return web.draft(
        endpoint.bot,
        given["question"],
        scope_key=_scope_key(endpoint, given.get("conversation"), webhook_id),
        sender_id=f"hook:{endpoint.pk.hex}",
        sender_name="webhook",
        own_id=webhook_id,
    )


def _scope_key(endpoint: Endpoint, conversation: Any, webhook_id: str) -> str:
    """A conversation that this hook began, or a new one; the same id always leads to the same new one."""
    scope = f"hook:{endpoint.pk.hex}:"
    if not conversation:
        return scope + (hashlib.sha256(webhook_id.encode()).hexdigest()[:32] if webhook_id else uuid7().hex)
    mine = Conversation.objects.filter(bot=endpoint.bot, source=web.SOURCE, scope_key__startswith=scope)
    found = mine.filter(pk=conversation).first()
    if found is None:
        raise Http404
    return found.scope_key


# -- Standard Webhooks --


def _check_signature(request: Request, body: bytes, endpoint: Endpoint, key: str) -> str:
    """The webhook's id; empty when nothing is signed. Raises AuthenticationFailed."""
    webhook_id, timestamp, signatures = _signed_with(request)
    if not (webhook_id or timestamp or signatures):
        return ""
    if problem := _problem(body, webhook_id, timestamp, signatures, key):
        audit.record_refusal("webhook.rejected", target=endpoint, reason=str(problem))
        raise AuthenticationFailed(problem)
    return webhook_id


def _signed_with(request: Request) -> tuple[str, str, str]:
    webhook_id, timestamp, signatures = (request.headers.get(name, "") for name in HEADERS)
    return webhook_id, timestamp, signatures


def _problem(body: bytes, webhook_id: str, timestamp: str, signatures: str, key: str) -> Any:
    if not webhook_id or len(webhook_id) > LONGEST_ID:
        return _("A signed webhook needs a webhook-id of at most 100 characters.")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp[:15])) > MOST_SKEW_S:
        return _("The webhook-timestamp is not within five minutes of now.")
    expected = signature_of(key, webhook_id, timestamp, body)
    if not any(constant_time_compare(one, expected) for one in signatures.split()):
        return _("The webhook-signature does not fit.")
    return None


def signature_of(key: str, webhook_id: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 HMAC-SHA256 of id, timestamp and body, joined by dots."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).decode()
