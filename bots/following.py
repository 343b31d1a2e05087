"""Following one answer from the site's event loop: for the WebSocket, for streamed REST, for REST callers who wait."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from channels.db import DatabaseSyncToAsync
from django.db import DatabaseError, InterfaceError

from bots.models import Message
from integrations.web import live

Status = Message.Status
LOOK_EVERY_S = 3.0  # how long a lost event can go unnoticed


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The end: the question as it stands in the database, and its reply where there is one."""

    question: Message
    reply: Message | None

    @property
    def is_failure(self) -> bool:
        return self.question.status in (Status.FAILED, Status.IGNORED)

    @property
    def text(self) -> str:
        return self.reply.text if self.reply else ""

    @property
    def tool_calls(self) -> list[dict[str, str]]:
        return self.reply.details.get("tool_calls", []) if self.reply else []

    @property
    def usage(self) -> dict[str, int]:
        prompt, completion = (self.reply.prompt_tokens, self.reply.completion_tokens) if self.reply else (0, 0)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def follow(message_id: UUID, timeout_s: float) -> AsyncGenerator[Piece | Settled, None]:
    """Yield what is written, then Settled. Joins at any time: what was missed comes first. Raises TimeoutError.

    Pieces only ever go on from what was yielded: an answer that another worker began anew in other words is silent
    until its end.
    """
    deadline = time.monotonic() + timeout_s
    async with live.follow(str(message_id)) as feed:
        shown = written = await live.text_so_far(str(message_id))
        if shown:
            yield Piece(shown)
        event = None
        while True:
            if event is None or event["type"] == "settled":
                if (end := await _settled(message_id)) is not None:
                    if more := _rest(end.text, shown):
                        yield Piece(more)
                    yield end
                    return
            elif event["type"] == "restart":
                written = ""
            else:
                written = _joined(written, event)
                if more := _rest(written, shown):
                    shown = written
                    yield Piece(more)
            if time.monotonic() > deadline:
                raise TimeoutError
            event = await feed.next(LOOK_EVERY_S)


def _joined(written: str, event: dict[str, object]) -> str:
    """The text so far with an event's piece; unchanged when a piece in between was lost."""
    offset, text = int(str(event["offset"])), str(event["text"])
    is_new = offset <= len(written) < offset + len(text)
    return written[:offset] + text if is_new else written


def _rest(text: str, shown: str) -> str:
    """What comes after ``shown``; nothing when the text does not begin so."""
    return text[len(shown) :] if text.startswith(shown) else ""


async def _settled(message_id: UUID) -> Settled | None:
    try:
        found: Settled | None = await DatabaseSyncToAsync(settled, thread_sensitive=False)(message_id)
    except (DatabaseError, InterfaceError):
        return None  # asked again in LOOK_EVERY_S
    return found


def settled(message_id: UUID) -> Settled | None:
    """The outcome, or None while the question is under way."""
    question = Message.objects.get(pk=message_id)
    if question.status in Message.WAITING:
        return None
    reply = question.replies.filter(is_current=True).first()
    return Settled(question, reply)
