"""A caller's question on its way in, and its answer on the way out: what asking.py and openai.py share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import aclosing
from typing import Any

from asgiref.sync import async_to_sync
from channels.db import DatabaseSyncToAsync
from django.db import connection
from django.http import StreamingHttpResponse
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, Throttled
from rest_framework.request import Request

from bots import intake, limits, web
from bots.drafts import Accepted, Draft
from bots.errors import Busy, NotStored
from bots.following import Piece, Settled, follow
from bots.models import Bot, Message
from bots.sentences import say
from clawdbot_site.security.principals import Principal
from clawdbot_site.security.teams import visible

LONGEST_S = 900.0
STORE_S = 20.0
PAUSE_S = 15.0  # how long a stream may be silent: proxies close what is silent for a minute
PADDING = b": kept alive\n\n"

MORE_ERRORS = ("429", "502", "503", "504")  # for the schema: what `keep`, `check` and `wait_for` raise

Event = Piece | Settled | None


class NotKept(APIException):
    status_code = 503
    default_code = "not_stored"
    default_detail = _("The message could not be stored. Please send it again.")


class ModelFailed(APIException):
    status_code = 502
    default_code = "model_failed"


class OverLimit(APIException):
    status_code = 429
    default_code = "rate_limited"


class TooSlow(APIException):
    status_code = 504
    default_code = "timeout"
    default_detail = _("There was no answer in time. Please ask again.")


# -- in --


def find_bot(slug: str, caller: Principal) -> Bot | None:
    """None also where the bot is another team's."""
    return visible(Bot.objects.select_related("model"), caller).filter(slug=slug, is_enabled=True).first()


def caller(request: Request) -> Principal:
    """Who calls, after HasScopes let them in."""
    assert isinstance(request.auth, Principal)
    return request.auth


def sender_of(principal: Principal, user: str) -> str:
    """Whom the bot's limits count: the caller, or the end user that the caller names."""
    return f"{principal.id}/{user}" if user else principal.id


def keep(item: Draft) -> Accepted:
    """Store the question durably. Raises NotKept, and Throttled when too much waits for the bot."""
    try:
        return intake.accept(item).result(STORE_S)
    except Busy as error:
        raise Throttled(error.retry_after_s, str(error)) from None
    except (NotStored, FutureTimeout):
        raise NotKept from None


# -- out --


async def events_of(accepted: Accepted) -> AsyncGenerator[Event, None]:
    """The pieces of an answer and its end; None whenever nothing came for PAUSE_S. Raises TimeoutError.

    What is said instead of an answer (an apology, a limit) is no piece: it is in the end only.
    """
    events, step, event = follow(accepted.message_id, LONGEST_S), None, None
    is_answer = False
    try:
        while not isinstance(event, Settled):
            step = step or asyncio.ensure_future(anext(events))
            await asyncio.wait({step}, timeout=PAUSE_S)
            event = None
            if step.done():
                event, step = step.result(), None
                is_answer = is_answer or not isinstance(event, Piece) or await _in_thread(_is_answer)(accepted)
            if is_answer or event is None:
                yield event
    finally:
        if step:
            step.cancel()
            await asyncio.wait({step})
        await events.aclose()


def _is_answer(accepted: Accepted) -> bool:
    """Whether what is being shown comes from the model."""
    question = Message.objects.select_related("conversation__bot").get(pk=accepted.message_id)
    return question.answered_at is None or not (question.finish_reason == "error" or refusal_of(question))


def _in_thread(function: Any) -> Any:
    return DatabaseSyncToAsync(function, thread_sensitive=False)


def wait_for(accepted: Accepted) -> Settled:
    """Block until the question is settled. Raises what ``check`` raises, and TooSlow.

    A caller who leaves (then this is cancelled) or waits no longer stops the answer.
    """
    release_connection()
    settled: Settled | None = None
    try:
        settled = async_to_sync(_end_of)(accepted)
    except TimeoutError:
        raise TooSlow from None
    finally:
        if settled is None:
            web.stop_message(accepted.message_id)
    check(settled)
    return settled


async def _end_of(accepted: Accepted) -> Settled:
    async with aclosing(events_of(accepted)) as events:
        async for event in events:
            if isinstance(event, Settled):
                return event
    raise TimeoutError


def release_connection() -> None:
    """A caller who waits for minutes must not hold one of the database's connections all the while."""
    if not connection.in_atomic_block:
        connection.close()


def check(settled: Settled) -> None:
    """Raise ModelFailed or OverLimit, with the words for the person, when the end is no answer."""
    if settled.is_failure:
        raise ModelFailed(settled.text or say("model_failed"))
    if refusal_of(settled.question):
        raise OverLimit(settled.text)


def refusal_of(question: Message) -> str | None:
    """Which limit was named instead of an answer: counted again, since an answer of the model has used tokens."""
    return None if question.prompt_tokens or question.completion_tokens else limits.refusal(question)


async def failure_of(settled: Settled) -> APIException | None:
    """What ``check`` raises, as a value, for streams that have begun."""
    try:
        await _in_thread(check)(settled)
    except APIException as error:
        return error
    return None


# -- server-sent events --


def line(data: Mapping[str, Any] | str) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


class _Stream:
    """Lines on their way. Django calls ``close``, in a thread, when they are all sent or when the caller has left."""

    def __init__(self, lines: AsyncIterator[bytes], accepted: Accepted) -> None:
        self._lines, self._accepted = lines, accepted

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._lines

    def close(self) -> None:
        """Stop the answer; one that is complete stays as it is."""
        web.stop_message(self._accepted.message_id)


def event_stream(lines: AsyncIterator[bytes], accepted: Accepted) -> StreamingHttpResponse:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    stream = _Stream(lines, accepted)
    return StreamingHttpResponse(stream, content_type="text/event-stream; charset=utf-8", headers=headers)
