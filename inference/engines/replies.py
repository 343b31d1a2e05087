"""What the replies of all engines have in common: the clock, the text so far, and the reasons to end early."""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import replace

from inference.base import Delta, Finish, GenRequest, Reply, Result, Timings, ToolCall, Usage
from inference.errors import BadRequest, ShuttingDown

logger = logging.getLogger(__name__)

HOTTEST = 10.0  # any hotter, and every token is as likely as every other
_ROLES = {"system", "user", "assistant", "tool"}


def check_request(request: GenRequest) -> None:
    """Raise BadRequest for what no engine can answer."""
    sampling = request.sampling
    if not {message.role for message in request.messages} <= _ROLES:
        raise BadRequest("a message has an unknown role")
    if not all(message.call_id for message in request.messages if message.role == "tool"):
        raise BadRequest("a tool's result does not say of which call")
    if not any(m.role == "user" and (m.text.strip() or m.images) for m in request.messages):
        raise BadRequest("the prompt holds nothing that a person said")
    if sampling.max_new_tokens < 1:
        raise BadRequest("max_new_tokens must be at least 1")
    if sampling.temperature is not None and not 0 <= sampling.temperature <= HOTTEST:
        raise BadRequest(f"temperature must be between 0 and {HOTTEST:g}")
    if sampling.top_p is not None and not 0 < sampling.top_p <= 1:
        raise BadRequest("top_p must be above 0 and at most 1")
    if sampling.top_k is not None and sampling.top_k < 1:
        raise BadRequest("top_k must be at least 1")


class Roster:
    """The replies under way of one engine, and its door."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        # Weak: a reply that nobody iterates, and nobody holds, must not keep an engine from shutting down.
        self._replies: weakref.WeakValueDictionary[str, TrackedReply] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._replies)

    def admit(self, reply: TrackedReply) -> None:
        """Raises ShuttingDown, BadRequest for an id that is in flight."""
        with self._lock:
            if self._is_closed:
                raise ShuttingDown("the engine is shutting down")
            if reply.request.id in self._replies:
                raise BadRequest("a request with this id is in flight")
            self._replies[reply.request.id] = reply

    def leave(self, reply: TrackedReply) -> None:
        with self._lock:
            if self._replies.get(reply.request.id) is reply:
                del self._replies[reply.request.id]

    def drain(self, deadline_s: float) -> None:
        """Close the door, give the replies ``deadline_s`` to end, then end them."""
        with self._lock:
            self._is_closed = True
        ends_at = time.monotonic() + deadline_s
        while self._replies and time.monotonic() < ends_at:
            time.sleep(0.02)
        for reply in list(self._replies.values()):
            reply.shut_down()


class TrackedReply(Reply):
    """A reply that ends exactly once. Subclasses make the deltas, and ask ``ending`` whether to go on."""

    def __init__(self, request: GenRequest, roster: Roster) -> None:
        super().__init__()
        self.request = request
        self.usage = Usage()
        self._roster = roster
        self._submitted_at = time.monotonic()
        self._ends_at = self._submitted_at + (math.inf if request.deadline_s is None else request.deadline_s)
        self._interrupted = threading.Event()
        self._is_shut_down = False
        self._answer: list[str] = []
        self._calls: list[ToolCall] = []
        self._first_token_s: float | None = None
        self._total_s = 0.0
        self._final: Delta | None = None
        self._deltas = self.deltas()

    @abstractmethod
    def deltas(self) -> Generator[Delta, None, None]:
        """Make the answer; the last delta has ``finish``. Runs in the thread that iterates."""

    def __iter__(self) -> Iterator[Delta]:
        while self._final is None:
            yield self._next()

    def result(self) -> Result:
        for _ in self:
            pass
        assert self._final is not None
        assert self._final.finish is not None
        return Result(
            "".join(self._answer),
            self.usage,
            self._final.finish,
            Timings(self._first_token_s, self._total_s),
            self._final.error,
            tuple(self._calls),
            self._final.is_too_long,
        )

    def cancel(self) -> None:
        super().cancel()
        self._interrupted.set()
        self.wake()

    def shut_down(self) -> None:
        """End with finish ``shutdown``; the engine's own way of cancelling."""
        self._is_shut_down = True
        self._interrupted.set()
        self.wake()

    def wake(self) -> None:
        """Called after an interruption, from another thread, for subclasses that block elsewhere than in ``pause``."""

    def ending(self) -> Finish | None:
        """Return why this reply must end now, if it must."""
        if self.is_cancelled:
            return "cancelled"
        if self._is_shut_down:
            return "shutdown"
        return "deadline" if time.monotonic() >= self._ends_at else None

    def remaining_s(self) -> float | None:
        """Return the time to the deadline, None without one."""
        return None if math.isinf(self._ends_at) else max(0.0, self._ends_at - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Sleep, but not over an interruption or the deadline."""
        remaining_s = self.remaining_s()
        self._interrupted.wait(seconds if remaining_s is None else min(seconds, remaining_s))

    def _next(self) -> Delta:
        try:
            delta = next(self._deltas)
        except Exception as error:  # the outermost loop: what nobody foresaw still ends in one final delta
            logger.exception("reply broke", extra={"request_id": self.request.id})
            delta = Delta(finish="error", error=f"unexpected {type(error).__name__}")
        if delta.finish == "stop" and self._calls:
            delta = replace(delta, finish="tool_calls")
        self._note(delta)
        return delta

    def _note(self, delta: Delta) -> None:
        self._total_s = time.monotonic() - self._submitted_at
        if (delta.text or delta.call) and self._first_token_s is None:
            self._first_token_s = self._total_s
        if delta.kind == "answer":
            self._answer.append(delta.text)
        if delta.call:
            self._calls.append(delta.call)
        if delta.finish:
            self._final = delta
            self._deltas.close()
            self._roster.leave(self)
