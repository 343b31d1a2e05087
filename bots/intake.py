"""The one way in: every door hands its message here, and it is durable before anybody is told so.

One writer thread a process stores all that waits (at most BATCH) in one transaction, without a timer: while one batch
commits, the next gathers. The doorbell rings after the commit.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from django.db import InterfaceError, OperationalError

from bots import backlog, connections, doorbell, storing
from bots.drafts import Accepted, Draft
from bots.errors import Busy, NotStored
from bots.models import Conversation
from monitoring import tracing
from monitoring.tracing.doors import Storing

logger = logging.getLogger(__name__)
BATCH = 64
STORE_S = 10.0  # stored later all the same, the platform's next delivery is a repeat
MOST_WAITING = 2_000  # more than this and the platform is told to come again


def accept(item: Draft) -> Future[Accepted]:
    """Store a message durably. The future fails with NotStored when the platform should try again."""
    future: Future[Accepted] = Future()
    future.set_running_or_notify_cancel()  # a caller who leaves must not cancel what the writer will set
    _writer.put(_Waiting(item, future, None, tracing.storing(item.details)))
    return future


async def accepted(item: Draft) -> Accepted:
    """The same from an event loop, which is woken once a batch. Raises NotStored and Busy."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Accepted] = loop.create_future()
    _writer.put(_Waiting(item, future, loop, tracing.storing(item.details)))
    try:
        async with asyncio.timeout(STORE_S):
            return await future
    except TimeoutError:
        raise NotStored("the database does not answer") from None


@dataclass(slots=True)
class _Waiting:
    draft: Draft
    future: Future[Accepted] | asyncio.Future[Accepted]
    loop: asyncio.AbstractEventLoop | None = None
    trace: Storing | None = None


def _tell(outcomes: Sequence[tuple[_Waiting, Accepted | Exception]]) -> None:
    """Hand out the outcomes; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[_Waiting, Accepted | Exception]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, part in by_loop.items():
        if loop is None:
            _resolve(part)
        elif not loop.is_closed():
            with suppress(RuntimeError):  # closed since
                loop.call_soon_threadsafe(_resolve, part)


def _resolve(outcomes: Sequence[tuple[_Waiting, Accepted | Exception]]) -> None:
    for waiting, outcome in outcomes:
        if waiting.future.done():
            continue  # the caller left
        if isinstance(outcome, Exception):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)


class _Writer:
    def __init__(self) -> None:
        self._waiting: queue.Queue[_Waiting] = queue.Queue(MOST_WAITING)
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, waiting: _Waiting) -> None:
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            _resolve([(waiting, NotStored("too many messages wait to be stored"))])
            return
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="intake-writer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                self._store(batch)
            except Exception:  # the outermost loop: the one writer must outlive whatever tracing or telling does
                logger.exception("the callers of a batch were not told")

    def _store(self, batch: list[_Waiting]) -> None:
        connections.freshen()
        try:
            batch = [waiting for waiting in batch if _is_welcome(waiting)]
            accepted = storing.store([waiting.draft for waiting in batch])
        except Exception as error:  # noqa: BLE001  (the one writer must outlive whatever a message holds)
            self._store_one_by_one(batch, error)
            return
        _trace(batch, accepted)
        _tell(list(zip(batch, accepted, strict=True)))
        _ring(batch, accepted)

    def _store_one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """One bad row must not cost its neighbours their places; without a database none has one."""
        if len(batch) > 1 and not isinstance(error, OperationalError | InterfaceError):
            for waiting in batch:
                self._store([waiting])
            return
        logger.error("messages could not be stored", exc_info=error)
        _tell([(waiting, NotStored("the database did not take the message")) for waiting in batch])


_writer = _Writer()


def _is_welcome(waiting: _Waiting) -> bool:
    """False when too much waits already: a program is refused; a person in a chat is told so, without the model."""
    draft = waiting.draft
    if draft.details.get("kind") == "command" or not backlog.is_full(draft.bot_id, draft.most_waiting):
        return True
    if draft.platform == Conversation.Platform.WEB:
        _tell([(waiting, Busy("The bot has more waiting messages than it can answer soon."))])
        return False
    draft.details["kind"] = "busy"
    return True


def _trace(batch: Sequence[_Waiting], accepted: Sequence[Accepted]) -> None:
    """Before anybody is told: the request that brought a message ends in the message's trace."""
    for waiting, outcome in zip(batch, accepted, strict=True):
        if waiting.trace:
            waiting.trace.done(outcome.message_id, outcome.conversation_id, is_new=outcome.is_new)


def _ring(batch: Sequence[_Waiting], accepted: Sequence[Accepted]) -> None:
    for waiting, outcome in zip(batch, accepted, strict=True):
        if outcome.is_new:
            needs_model = waiting.draft.details.get("kind") != "busy"
            doorbell.ring(outcome.conversation_id, waiting.draft.queue, needs_answer=needs_model)
