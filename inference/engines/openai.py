"""Any service that speaks the OpenAI chat API: vLLM, SGLang, a cloud. One streamed call per answer.

Retries come only before the first token, while the reply is iterated, and end it within 60 s in all.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx

from inference.base import Delta, Engine, EngineStats, Finish, GenRequest, Usage
from inference.engines.breaker import CircuitBreaker
from inference.engines.chat_api import Chunk, Dialect, Unavailable, chat_body, chunks, explained
from inference.engines.checking import Check, Health
from inference.engines.keys import ApiKey, KeyRing
from inference.engines.parts import PartSplitter
from inference.engines.replies import Roster, TrackedReply, check_request
from inference.engines.service import CallFailed, Service
from inference.engines.tool_splitter import SentCalls, offered
from inference.engines.wire import Wire
from inference.errors import FILTERED, EngineDown, InferenceError, PromptTooLong
from inference.text import estimated_tokens

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_LONGEST_RETRY_AFTER_S = 20.0
_MOST_CHARACTERS_PER_TOKEN = 32
_FINISHES: dict[str, Finish] = {"length": "length"}  # everything else that is no error ends like "stop"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. The first token, retries included, comes within ``first_token_s``; no retry begins after ``retry_s``."""

    first_token_s: float = 60.0
    between_tokens_s: float = 60.0
    retry_s: float = 45.0


class OpenAIEngine(Engine):
    """``http`` is an HTTP/1.1 client of this engine's own, guarded and in the end closed by whoever made it."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | KeyRing,
        http: httpx.Client,
        *,
        first_token_timeout_s: float = 60.0,
        between_tokens_timeout_s: float = 60.0,
        retry_budget_s: float = 45.0,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.model = model
        keys = api_key if isinstance(api_key, KeyRing) else KeyRing([ApiKey(api_key)])
        self.service = Service(http, base_url, keys)
        self.timeouts = Timeouts(first_token_timeout_s, between_tokens_timeout_s, retry_budget_s)
        self.breaker = breaker or CircuitBreaker()
        self.dialect = Dialect()
        self._roster = Roster()

    def submit(self, request: GenRequest) -> OpenAIReply:
        check_request(request)
        chat_body(request, self.model, self.dialect)  # refuses a broken picture now
        reply = OpenAIReply(request, self._roster, self)
        if wait_s := self.breaker.wait_s():
            raise _broken(wait_s, self.breaker.reason)
        self._roster.admit(reply)
        return reply

    def learn(self, failed: CallFailed, used: Dialect) -> bool:
        """Return whether the service refused only our way of asking, and is to be asked in another from now on."""
        corrected = used.corrected(failed.text) if failed.status in (400, 422) else None
        if corrected is not None and self.dialect == used:  # else another reply learnt it first
            self.dialect = corrected
        return corrected is not None

    def has_another_key(self, failed: CallFailed) -> bool:
        """Each key refused rests, so this ends after as many calls as there are keys."""
        return failed.status in (401, 403, 429) and self.service.keys.has_fresh()

    def check(self, prompt: str = "Say hello.", timeout_s: float = 20.0) -> Health:
        """Ask something as an answer would, in the service's dialect and with each of its keys; never raises."""
        return Check(self, prompt, timeout_s).health()

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._roster))

    def drain(self, deadline_s: float) -> None:
        self._roster.drain(deadline_s)

    def close(self) -> None:
        self._roster.drain(0)


class OpenAIReply(TrackedReply):
    """``usage_is_estimated`` says that the service did not count, or was not let finish."""

    def __init__(self, request: GenRequest, roster: Roster, engine: OpenAIEngine) -> None:
        super().__init__(request, roster)
        self.usage_is_estimated = True
        self._engine = engine
        self._timeouts = engine.timeouts
        self._patience_s = min(engine.timeouts.first_token_s, request.first_token_s or math.inf)
        self._parts = PartSplitter(offered(request))
        self._sent_calls = SentCalls()
        self._written: list[str] = []  # all that the model wrote, thinking too
        self._written_characters = 0
        self._has_answer = False
        self._dialect = engine.dialect
        self._began_at = 0.0
        self._wire_lock = threading.Lock()
        self._wire: Wire | None = None

    def wake(self) -> None:
        with self._wire_lock:
            if self._wire is not None:
                self._wire.cut()

    def deltas(self) -> Generator[Delta, None, None]:
        self._began_at = time.monotonic()
        try:
            yield from self._retried()
        except InferenceError as error:
            yield self._ended_by(error)

    def _retried(self) -> Iterator[Delta]:
        for attempt in itertools.count():
            try:
                yield from self._attempt()
                return
            except CallFailed as failed:
                pause_s = self._pause_before_retry(failed, attempt)
                if pause_s is None:
                    raise explained(failed) from failed
            self.pause(pause_s)

    def _attempt(self) -> Iterator[Delta]:
        """One call, from the first delta to the last. Raises CallFailed."""
        wire = self._new_wire()
        finish = ""
        with closing(chunks(self._call(wire))) as received:
            for chunk in received:
                wire.expires_at = self._ends_at  # the clock of the tokens stands still while the caller has the delta
                finish = chunk.finish or finish
                yield from self._noted(chunk)
                self._raise_if_interrupted()
                if self._has_run_away():
                    finish = "length"
                    break
                wire.expires_at = min(self._ends_at, self._silence_ends_at())
        yield from self._complete(finish)

    def _has_run_away(self) -> bool:
        """The service writes on far behind the limit it was given."""
        return self._written_characters > _MOST_CHARACTERS_PER_TOKEN * self.request.sampling.max_new_tokens + 4096

    def _call(self, wire: Wire) -> Generator[str]:
        self._raise_if_interrupted()
        self._dialect = self._engine.dialect
        body = chat_body(self.request, self._engine.model, self._dialect)
        read_timeout_s = max(self._timeouts.first_token_s, self._timeouts.between_tokens_s) + 5  # the wire is exact
        traced = {"traceparent": self.request.traceparent} if self.request.traceparent else {}
        return self._engine.service.stream("/chat/completions", body, wire, read_timeout_s, traced)

    def _noted(self, chunk: Chunk) -> Iterator[Delta]:
        if chunk.usage is not None:
            self.usage, self.usage_is_estimated = chunk.usage, False
        called = [text for piece in chunk.calls for text in (piece.name, piece.arguments)]
        written = [text for text in (chunk.reasoning, chunk.answer, *called) if text]
        self._written += written
        self._written_characters += sum(map(len, written))
        for piece in chunk.calls:
            self._sent_calls.add(piece.index, piece.id, piece.name, piece.arguments)
        if chunk.reasoning:
            yield Delta(chunk.reasoning, "reasoning")
        yield from self._shown(self._parts.feed(chunk.answer))

    def _shown(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        for delta in deltas:
            is_words = delta.kind == "answer" and not delta.text.isspace()
            self._has_answer = self._has_answer or is_words or delta.call is not None
            yield delta

    def _complete(self, finish: str) -> Iterator[Delta]:
        yield from self._shown(self._parts.close(self._sent_calls.whole()))
        self._estimate_usage()
        self._engine.breaker.succeeded()
        if finish == "content_filter":
            yield Delta(finish="error", error=FILTERED)
        elif not self._has_answer:
            thoughts = ", only thoughts" if self._written else ""
            yield Delta(finish="error", error=f"the model returned no text{thoughts}")
        else:
            yield Delta(finish=_FINISHES.get(finish, "stop"))

    def _ended_by(self, error: InferenceError) -> Delta:
        self._estimate_usage()
        if finish := self.ending():
            return Delta(finish=finish)
        reason = self._engine.service.cleaned(f"the answer was cut off: {error}" if self._written else str(error))
        if isinstance(error, Unavailable):
            self._engine.breaker.failed(reason)
        else:
            self._engine.breaker.succeeded()  # it is there, and means what it says
        return Delta(finish="error", error=reason, is_too_long=isinstance(error, PromptTooLong))

    def _pause_before_retry(self, failed: CallFailed, attempt: int) -> float | None:
        """Return how long to wait, None to give up."""
        if self._written or self.ending():
            return None
        if self._engine.learn(failed, self._dialect) or self._engine.has_another_key(failed):
            return 0.0
        if not isinstance(explained(failed), Unavailable):
            return None
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
        pause_s = random.uniform(longest_s / 2, longest_s)  # noqa: S311 - jitter
        if failed.retry_after_s is not None:
            pause_s += min(failed.retry_after_s, _LONGEST_RETRY_AFTER_S)
        is_spared = self.request.first_token_s is not None  # another model can answer: try that one soon
        budget_s = min(self._timeouts.retry_s, self._patience_s / (3 if is_spared else 1))
        return pause_s if time.monotonic() - self._began_at + pause_s < budget_s else None

    def _new_wire(self) -> Wire:
        with self._wire_lock:
            self._wire = Wire(min(self._ends_at, self._began_at + self._patience_s))
            return self._wire

    def _silence_ends_at(self) -> float:
        if not self._written:
            return self._began_at + self._patience_s
        return time.monotonic() + self._timeouts.between_tokens_s

    def _raise_if_interrupted(self) -> None:
        if finish := self.ending():
            raise EngineDown(finish)

    def _estimate_usage(self) -> None:
        """Put an ESTIMATE where the service did not count."""
        if self.usage_is_estimated and self._written:
            prompt = estimated_tokens(message.text for message in self.request.messages)
            self.usage = Usage(prompt, estimated_tokens(self._written))


def _broken(wait_s: float, reason: str) -> EngineDown:
    said = f"; last: {reason}" if reason else ""
    error = EngineDown(f"the service failed several times in a row and is left alone for some seconds{said}")
    error.retry_after_s = wait_s
    return error
