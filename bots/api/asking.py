"""``POST bots/<slug>/messages/``: one question, and its answer at once or as it is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bots import web
from bots.api import answers
from bots.api.words import WordsField
from bots.drafts import Accepted, Draft
from bots.following import Piece, Settled
from bots.models import Bot, Conversation
from clawdbot_site.security.parsing import BoundedJSONParser
from clawdbot_site.security.principals import Principal
from monitoring.api import JsonOnly
from monitoring.ids import uuid7

LONGEST_USER = 100


class AskSerializer(serializers.Serializer[Any]):
    text = WordsField()
    conversation = serializers.UUIDField(required=False, allow_null=True, help_text="Goes on with an earlier one.")
    user = serializers.CharField(
        required=False, allow_blank=True, max_length=LONGEST_USER, help_text="Your own id of your end user."
    )
    stream = serializers.BooleanField(default=False, help_text="Answer with server-sent events.")


class UsageSerializer(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class AnswerSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(allow_null=True, help_text="The reply's.")
    message_id = serializers.UUIDField(help_text="The question's.")
    conversation = serializers.UUIDField()
    status = serializers.CharField()
    text = serializers.CharField()
    usage = UsageSerializer()


FAILED = OpenApiResponse(description="The model gave no answer; the message is fit for the person who asked.")


class AskView(APIView):
    required_scopes = {"write": "chat"}
    parser_classes = [BoundedJSONParser]
    more_errors = answers.MORE_ERRORS
    content_negotiation_class = JsonOnly  # an event stream is asked for by `stream`, whatever Accept says

    @extend_schema(
        summary="Ask a bot",
        request=AskSerializer,
        responses={
            (200, "application/json"): AnswerSerializer,
            (200, "text/event-stream"): OpenApiTypes.STR,
            502: FAILED,
        },
    )
    def post(self, request: Request, slug: str) -> HttpResponseBase:
        """Waits for the whole answer, or streams it. A caller who leaves before the end stops the answer."""
        caller = answers.caller(request)
        bot = answers.find_bot(slug, caller)
        if bot is None:
            raise Http404
        given = AskSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        accepted = answers.keep(_draft(bot, caller, **given.validated_data))
        if given.validated_data["stream"]:
            return answers.event_stream(_lines(accepted), accepted)
        return Response(_answer(accepted, answers.wait_for(accepted)))


def _draft(
    bot: Bot, principal: Principal, text: str, stream: bool, conversation: UUID | None = None, user: str = ""
) -> Draft:
    begun = _conversation(bot, principal, conversation, user) if conversation else None
    return web.draft(
        bot,
        text,
        scope_key=begun.scope_key if begun else f"{_scope_of(principal)}{uuid7().hex}",
        sender_id=begun.user_id if begun else answers.sender_of(principal, user),
        sender_name=user or principal.user.get_username(),
    )


def _scope_of(principal: Principal) -> str:
    return f"rest:{principal.id}:"


def _conversation(bot: Bot, principal: Principal, pk: UUID, user: str) -> Conversation:
    """A conversation that this caller began (for this user, where one is named): anybody else's is not found."""
    mine = Conversation.objects.filter(bot=bot, source=web.SOURCE, scope_key__startswith=_scope_of(principal))
    found = mine.filter(pk=pk).first()
    if found is None or (user and found.user_id != answers.sender_of(principal, user)):
        raise Http404
    return found


def _answer(accepted: Accepted, end: Settled) -> dict[str, Any]:
    return {
        "id": str(end.reply.pk) if end.reply else None,
        "message_id": str(accepted.message_id),
        "conversation": str(accepted.conversation_id),
        "status": end.question.status,
        "text": end.text,
        "usage": end.usage,
    }


async def _lines(accepted: Accepted) -> AsyncGenerator[bytes, None]:
    """The WebSocket's objects as ``data:`` lines."""
    message_id = str(accepted.message_id)
    named = {"message_id": message_id, "conversation": str(accepted.conversation_id)}
    yield answers.line({"type": "accepted", "id": message_id, **named})
    try:
        async with aclosing(answers.events_of(accepted)) as events:
            async for event in events:
                if event is None:
                    yield answers.PADDING
                elif isinstance(event, Piece):
                    yield answers.line({"type": "delta", "message_id": message_id, "text": event.text})
                else:
                    yield await _end_line(accepted, event)
    except TimeoutError:
        yield answers.line(_error(message_id, answers.TooSlow()))


async def _end_line(accepted: Accepted, end: Settled) -> bytes:
    if error := await answers.failure_of(end):
        return answers.line(_error(str(accepted.message_id), error))
    return answers.line({"type": "done", **_answer(accepted, end)})


def _error(message_id: str, error: Any) -> dict[str, str]:
    return {"type": "error", "code": error.get_codes(), "message": str(error.detail), "message_id": message_id}
