"""``/v1``: bots as models for any OpenAI client. The same intake, queue, limits and records as every other door."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import path, re_path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bots import web
from bots.api import answers, openai_shapes
from bots.api.answers import Event
from bots.api.openai_requests import (
    MOST_BYTES,
    ChatCompletionSerializer,
    CompletionSerializer,
    Content,
    TextCompletionSerializer,
)
from bots.api.openai_shapes import ModelNotFound, Shape
from bots.drafts import Accepted, Draft
from bots.following import Piece, Settled
from bots.models import Bot
from clawdbot_site.security.parsing import BoundedJSONParser
from clawdbot_site.security.principals import Principal
from clawdbot_site.security.teams import visible
from monitoring.api import JsonOnly

OBJECT = {(200, "application/json"): OpenApiTypes.OBJECT}
STREAM = {(200, "text/event-stream"): OpenApiTypes.STR}


class OpenAIParser(BoundedJSONParser):
    most_bytes = MOST_BYTES


class OpenAIView(APIView):
    parser_classes = [OpenAIParser]
    content_negotiation_class = JsonOnly
    error_serializer = openai_shapes.ErrorSerializer
    required_scopes: Any = {"write": "chat"}

    def get_exception_handler(self) -> Callable[..., Response]:
        return openai_shapes.in_openai_shape


class BotsView(OpenAIView):
    @property
    def required_scopes(self) -> dict[str, str]:
        """Either of two will do."""
        may_chat = "chat" in getattr(self.request.auth, "scopes", ())
        return {"read": "chat" if may_chat else "bots:read"}


class ModelsView(BotsView):
    @extend_schema(summary="List bots as models", operation_id="openai_models", responses=OBJECT)
    def get(self, request: Request) -> Response:
        """The bots that can be asked; a model's id is the bot's slug."""
        bots = visible(Bot.objects.filter(is_enabled=True), request.auth).order_by("-created_at", "-id")
        return Response({"object": "list", "data": [openai_shapes.model(bot) for bot in bots]})


class ModelView(BotsView):
    @extend_schema(summary="Read one bot as a model", operation_id="openai_model", responses=OBJECT)
    def get(self, request: Request, slug: str) -> Response:
        return Response(openai_shapes.model(_bot(slug, answers.caller(request))))


class CompletionView(OpenAIView):
    more_errors = answers.MORE_ERRORS
    serializer_class: ClassVar[type[CompletionSerializer]]
    shape: ClassVar[type[Shape]]

    def post(self, request: Request) -> HttpResponseBase:
        given = self.serializer_class(data=request.data)
        given.is_valid(raise_exception=True)
        caller = answers.caller(request)
        bot = _bot(given.validated_data["model"], caller)
        accepted = answers.keep(_draft(bot, caller, given))
        shape = self.shape(bot, accepted, int(time.time()))
        if given.validated_data["stream"]:
            return _streamed(shape, accepted, given.validated_data.get("stream_options") or {})
        return Response(shape.whole(answers.wait_for(accepted)))


class ChatCompletionsView(CompletionView):
    serializer_class, shape = ChatCompletionSerializer, openai_shapes.Chat

    @extend_schema(
        summary="Answer a chat, as OpenAI does",
        operation_id="openai_chat_completions",
        request=ChatCompletionSerializer,
        responses=OBJECT | STREAM,
    )
    def post(self, request: Request) -> HttpResponseBase:
        """The bot's system prompt comes first; the request's messages are the whole history."""
        return super().post(request)


class TextCompletionsView(CompletionView):
    serializer_class, shape = TextCompletionSerializer, openai_shapes.Text

    @extend_schema(
        summary="Answer a prompt, as OpenAI once did",
        operation_id="openai_completions",
        request=TextCompletionSerializer,
        responses=OBJECT | STREAM,
    )
    def post(self, request: Request) -> HttpResponseBase:
        return super().post(request)


@csrf_exempt
def unknown(request: HttpRequest) -> JsonResponse:
    text = f"Unknown address: {request.method} {request.path[:200]}"
    return JsonResponse(openai_shapes.error_body(text, "unknown_url", 404), status=404)


urlpatterns = [
    path("models", ModelsView.as_view(), name="openai-models"),
    path("models/<slug:slug>", ModelView.as_view(), name="openai-model"),
    path("chat/completions", ChatCompletionsView.as_view(), name="openai-chat"),
    path("completions", TextCompletionsView.as_view(), name="openai-completions"),
    re_path(r"", unknown),
]


def _bot(slug: str, caller: Principal) -> Bot:
    bot = answers.find_bot(slug, caller)
    if bot is None:
        raise ModelNotFound(_("The model `%(slug)s` does not exist, or you may not use it.") % {"slug": slug})
    return bot


def _draft(bot: Bot, principal: Principal, given: CompletionSerializer) -> Draft:
    contents, user = given.contents(), given.validated_data.get("user") or ""
    if any(content.images for _role, content in contents) and not bot.model.vision:
        raise serializers.ValidationError({"messages": _("This model cannot see pictures. Send text only.")})
    return web.draft(
        bot,
        _last_words(contents),
        scope_key=web.new_scope(),
        sender_id=answers.sender_of(principal, user),
        sender_name=user or principal.user.get_username(),
        details={"request": given.request()},
    )


def _last_words(contents: list[tuple[str, Content]]) -> str:
    asked = [content.text for role, content in contents if role == "user"]
    return (asked or [contents[-1][1].text])[-1]


# -- streaming --


def _streamed(shape: Shape, accepted: Accepted, options: dict[str, Any]) -> HttpResponseBase:
    """Begin once there is something to say: a failure before that is an ordinary HTTP error."""
    answers.release_connection()
    events = answers.events_of(accepted)
    try:
        first = async_to_sync(_first)(events)
    except TimeoutError:
        raise answers.TooSlow from None
    if isinstance(first, Settled):
        answers.check(first)
    with_usage = bool(options.get("include_usage"))
    return answers.event_stream(_lines(shape, first, events, with_usage), accepted)


async def _first(events: AsyncGenerator[Event, None]) -> Event:
    """The first event; None after a silence that a proxy might not bear much longer."""
    first = await anext(events)
    if isinstance(first, Settled):
        await events.aclose()
    return first


async def _lines(
    shape: Shape, first: Event, events: AsyncGenerator[Event, None], with_usage: bool
) -> AsyncGenerator[bytes, None]:
    usage = {"usage": None} if with_usage else {}
    if opening := shape.opening():
        yield answers.line(shape.chunk(opening) | usage)
    try:
        async with aclosing(events):
            async for event in _chained(first, events):
                if event is None:
                    yield answers.PADDING
                elif isinstance(event, Piece):
                    yield answers.line(shape.chunk(shape.piece(event.text)) | usage)
                else:
                    yield await _end_lines(shape, event, with_usage)
    except TimeoutError:
        yield answers.line(openai_shapes.stream_error(answers.TooSlow()))


async def _chained(first: Event, rest: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    yield first
    async for event in rest:
        yield event


async def _end_lines(shape: Shape, end: Settled, with_usage: bool) -> bytes:
    if error := await answers.failure_of(end):
        return answers.line(openai_shapes.stream_error(error))
    usage = {"usage": None} if with_usage else {}
    lines = b"".join(answers.line(shape.chunk(calls) | usage) for calls in shape.calls(end))
    lines += answers.line(shape.chunk(shape.piece(""), openai_shapes.finish_of(end)) | usage)
    if with_usage:
        lines += answers.line(shape.usage(end))
    return lines + answers.line("[DONE]")
