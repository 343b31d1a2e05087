"""What OpenAI's clients expect to read: completions, chunks, models, errors. Pure but for the error handler's log."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from rest_framework import exceptions, serializers, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from bots import tools
from bots.drafts import Accepted
from bots.following import Settled
from bots.models import Bot

logger = logging.getLogger(__name__)
Json = dict[str, Any]
CODES = {401: "invalid_api_key", 403: "insufficient_permissions", 413: "request_too_large", 429: "rate_limit_exceeded"}
MESSAGES = {
    401: "Send an API key, or an access token: `Authorization: Bearer <key>`.",
    500: "Something went wrong here. Please try again later.",
}


class Shape(ABC):
    """One of the two kinds of completion: how its objects are called, and where its text stands."""

    prefix: ClassVar[str]
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    def __init__(self, bot: Bot, accepted: Accepted, created_s: int) -> None:
        self._named = {"id": f"{self.prefix}{accepted.message_id.hex}", "created": created_s, "model": bot.slug}

    def whole(self, end: Settled) -> Json:
        choice = {"index": 0, **self.content(end), "logprobs": None, "finish_reason": finish_of(end)}
        return {**self._named, "object": self.kind, "choices": [choice], "usage": end.usage}

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, **delta, "logprobs": None, "finish_reason": finish}
        return {**self._named, "object": self.chunk_kind, "choices": [choice]}

    def usage(self, end: Settled) -> Json:
        return {**self._named, "object": self.chunk_kind, "choices": [], "usage": end.usage}

    def calls(self, end: Settled) -> Iterator[Json]:
        """Where tool calls stand in a stream, after its pieces."""
        yield from ()

    @abstractmethod
    def content(self, end: Settled) -> Json:
        """Where a whole answer stands in its choice."""

    @abstractmethod
    def opening(self) -> Json | None:
        """What a stream begins with."""

    @abstractmethod
    def piece(self, text: str) -> Json:
        """Where a piece stands; the empty one closes a stream."""


class Chat(Shape):
    prefix, kind, chunk_kind = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def content(self, end: Settled) -> Json:
        calls = tools.in_api(end.tool_calls)
        content = end.text or None if calls else end.text
        return {
            "message": {"role": "assistant", "content": content, "refusal": None}
            | ({"tool_calls": calls} if calls else {})
        }

    def calls(self, end: Settled) -> Iterator[Json]:
        for index, call in enumerate(tools.in_api(end.tool_calls)):
            yield {"delta": {"tool_calls": [{"index": index, **call}]}}

    def opening(self) -> Json | None:
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}


class Text(Shape):
    prefix, kind, chunk_kind = "cmpl-", "text_completion", "text_completion"

    def content(self, end: Settled) -> Json:
        return {"text": end.text}

    def opening(self) -> Json | None:
        return None

    def piece(self, text: str) -> Json:
        return {"text": text}


def finish_of(end: Settled) -> str:
    names = {"length": "length", "filtered": "content_filter", "tool_calls": "tool_calls"}
    return names.get(end.reply.finish_reason, "stop") if end.reply else "stop"


def model(bot: Bot) -> Json:
    return {"id": bot.slug, "object": "model", "created": int(bot.created_at.timestamp()), "owned_by": "clawdbot"}


# -- errors --


class ModelNotFound(exceptions.NotFound):
    default_code = "model_not_found"


class ErrorDetailSerializer(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField()

    class Meta:
        ref_name = "OpenAIErrorDetail"


class ErrorSerializer(serializers.Serializer[Any]):
    """For the schema only."""

    error = ErrorDetailSerializer()

    class Meta:
        ref_name = "OpenAIError"


def error_body(message: str, code: str, status_code: int, param: str | None = None) -> Json:
    kind = "invalid_request_error" if status_code < 500 else "server_error"
    kind = "rate_limit_error" if status_code == status.HTTP_429_TOO_MANY_REQUESTS else kind
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def in_openai_shape(error: Exception, context: Json) -> Response:
    """DRF's exception handler for these addresses. Nothing of an unexpected error is told."""
    response = exception_handler(error, context)
    if response is None:
        logger.error("unexpected error at an OpenAI address", exc_info=error)
        response = Response(status=status.HTTP_500_INTERNAL_SERVER_ERROR)
    message, param = _explain(error, response)
    response.data = error_body(message, _code(error, response), response.status_code, param)
    return response


def stream_error(error: exceptions.APIException) -> Json:
    return error_body(str(error.detail), str(error.get_codes()), error.status_code)


def _explain(error: Exception, response: Response) -> tuple[str, str | None]:
    if isinstance(error, exceptions.ValidationError):
        path, message = next(_problems(error.detail), ("", "The request was refused."))
        return (f"{path}: {message}" if path else message), path or None
    if isinstance(error, exceptions.APIException) and not isinstance(error, exceptions.NotAuthenticated):
        return str(error.detail), "model" if isinstance(error, ModelNotFound) else None
    return MESSAGES.get(response.status_code, "There is no such thing here."), None


def _problems(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(where, what) of each problem in DRF's nested errors."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            where = path if name == "non_field_errors" else f"{path}.{name}".lstrip(".")
            yield from _problems(inner, where)
    elif isinstance(detail, list):
        for inner in detail:
            yield from _problems(inner, path)
    else:
        yield path, str(detail)


def _code(error: Exception, response: Response) -> str:
    if response.status_code in CODES:
        return CODES[response.status_code]
    codes = error.get_codes() if isinstance(error, exceptions.APIException) else None
    fallback = "internal_error" if response.status_code >= 500 else "invalid_value"
    return codes if isinstance(codes, str) else fallback
