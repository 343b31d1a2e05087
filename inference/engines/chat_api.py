"""OpenAI's chat API as values: request bodies, stream chunks, and what a refusal means. Pure, no network."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from inference.base import ChatMessage, GenRequest, ToolCall, Usage
from inference.engines.service import DONE, CallFailed
from inference.errors import BadRequest, EngineDown, InferenceError, PromptTooLong
from inference.text import well_formed

_PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_TOO_LONG = re.compile(r"context.{0,20}(length|window)|too (long|many tokens)|maximum.{0,20}tokens|max_model_len", re.I)
_NO_STREAM_OPTIONS = re.compile(
    r"stream_options|include_usage|extra (inputs|fields)|un(known|recognized) (request )?(arg|field|key|param)", re.I
)


_MOST_TOKENS = 100_000_000  # of one call; above it nobody has counted


class Unavailable(EngineDown):
    """The service is down, overloaded or out of reach: asking again later may help."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one service does not understand of the common API; learnt from its refusals."""

    has_stream_options: bool = True
    has_max_tokens: bool = True  # the newest OpenAI models know only max_completion_tokens

    def corrected(self, refusal: str) -> Dialect | None:
        """Return the dialect to try after a 400 with this text, None if the text is about something else."""
        if self.has_max_tokens and "max_completion_tokens" in refusal:
            return replace(self, has_max_tokens=False)
        if self.has_stream_options and _NO_STREAM_OPTIONS.search(refusal):
            return replace(self, has_stream_options=False)
        return None


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a tool call; those of one ``index`` belong together."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event adds to the answer."""

    answer: str = ""
    reasoning: str = ""
    finish: str = ""
    usage: Usage | None = None
    calls: tuple[CallPiece, ...] = ()


def chat_body(request: GenRequest, model: str, dialect: Dialect) -> dict[str, Any]:
    """Raises BadRequest for a picture of unknown format."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "max_tokens" if dialect.has_max_tokens else "max_completion_tokens": sampling.max_new_tokens,
    }
    if dialect.has_stream_options:
        body["stream_options"] = {"include_usage": True}
    chosen: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    if request.tools:
        chosen |= {"tools": list(request.tools), "tool_choice": request.tool_choice}
    body |= {name: value for name, value in chosen.items() if value is not None}
    return body | ({"stop": list(sampling.stop)} if sampling.stop else {})


def chunks(events: Generator[str]) -> Generator[Chunk]:
    """Read a stream up to its end. One that breaks off without saying that it is complete raises CallFailed."""
    is_complete = False
    with closing(events):
        for data in events:
            if data.strip() == DONE:
                return
            if data.strip():
                chunk = parse_chunk(data)
                is_complete = is_complete or bool(chunk.finish)
                yield chunk
    if not is_complete:
        raise CallFailed(None, "the service closed the connection before the end")


def parse_chunk(data: str) -> Chunk:
    """Read a stream's event, or the one body of a service that does not stream. Raises CallFailed."""
    event = _json_object(data)
    if error := event.get("error"):
        raise _reported(error)
    choices = event.get("choices")
    choice = next((c for c in choices if isinstance(c, dict)), {}) if isinstance(choices, list) else {}
    message = next((m for name in ("delta", "message") if isinstance(m := choice.get(name), dict)), {})
    return Chunk(
        answer=_text(message.get("content") or choice.get("text")),
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        finish=_text(choice.get("finish_reason")),
        usage=_usage(event.get("usage")),
        calls=tuple(_call_pieces(message)),
    )


def explained(failed: CallFailed) -> InferenceError:
    """Say what a failed call means for the request."""
    said = f": {failed.text}" if failed.text else ""
    error = _meaning(failed, said)
    error.retry_after_s = failed.retry_after_s
    return error


def _meaning(failed: CallFailed, said: str) -> InferenceError:
    if failed.status is None:
        return Unavailable(failed.text)
    if failed.status == 200:
        return EngineDown(failed.text)
    if failed.status in (401, 403):
        return EngineDown("the service refused the API key")
    if failed.status == 404:
        return EngineDown(f"the service does not know the address or the model{said}")
    if failed.status in (400, 413, 422):
        kind = PromptTooLong if _TOO_LONG.search(failed.text) else BadRequest
        return kind(f"the service refused the request{said}")
    if failed.is_retriable and "insufficient_quota" not in failed.text:
        return Unavailable(f"the service answered {failed.status}{said}")
    return EngineDown(f"the service answered {failed.status}{said}")


def _message(message: ChatMessage) -> dict[str, Any]:
    text = well_formed(message.text)
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": text}
    if message.calls:
        return {"role": message.role, "content": text or None, "tool_calls": [sent_call(one) for one in message.calls]}
    if not message.images:
        return {"role": message.role, "content": text}
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return {"role": message.role, "content": [{"type": "text", "text": text}, *pictures]}


def sent_call(call: ToolCall) -> dict[str, Any]:
    """As it stands in a message of the API."""
    function = {"name": call.name, "arguments": well_formed(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _data_url(image: bytes) -> str:
    kind = next((kind for start, kind in _PICTURES.items() if image.startswith(start)), "")
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "webp"
    if not kind:
        raise BadRequest("a picture is not PNG, JPEG, GIF or WebP")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _json_object(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):  # the second: nested a hundred thousand deep
        raise CallFailed(None, "the service sent something that is not JSON") from None
    if not isinstance(event, dict):
        raise CallFailed(None, "the service sent something that is not a JSON object")
    return event


def _reported(error: Any) -> CallFailed:
    """An error inside a stream that began with status 200; its own code tells more, if it has one."""
    found = error if isinstance(error, dict) else {"message": error}
    code = found.get("code")
    is_status = isinstance(code, int) and 400 <= code < 600
    return CallFailed(code if is_status else 500, str(found.get("message") or found.get("type") or code or ""))


def _text(value: Any) -> str:
    if isinstance(value, list):  # content parts
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _call_pieces(message: dict[str, Any]) -> Iterator[CallPiece]:
    """OpenAI's tool calls, and the single function call of its older clients."""
    if isinstance(old := message.get("function_call"), dict):
        yield CallPiece(0, "", _text(old.get("name")), _arguments(old.get("arguments")))
    found = message.get("tool_calls")
    for piece in found if isinstance(found, list) else []:
        if not isinstance(piece, dict):
            continue
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        index = piece.get("index")
        name, arguments = _text(function.get("name")), _arguments(function.get("arguments"))
        yield CallPiece(index if type(index) is int else None, _text(piece.get("id")), name, arguments)


def _arguments(value: Any) -> str:
    """Some services send the object itself."""
    return json.dumps(value) if isinstance(value, dict) else _text(value)


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    counts: list[Any] = [value.get("prompt_tokens"), value.get("completion_tokens")]
    if not all(type(count) is int and 0 <= count <= _MOST_TOKENS for count in counts):
        return None  # estimated instead: costs are made of these
    return Usage(*counts)
