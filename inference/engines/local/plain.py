"""The way back: transformers' own ``generate``, one request at a time, for models whose attention we do not know."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from inference.engines.local.generation import generate
from inference.engines.local.model import LocalModel
from inference.engines.local.sequence import Event, Sequence

logger = logging.getLogger(__name__)


class PlainCore:
    """A step is a whole answer; its tokens are told to ``deliver`` as they come."""

    def __init__(self, loaded: LocalModel, deliver: Callable[[list[Event]], None]) -> None:
        self.steps = 0
        self.host_s = 0.0
        self._loaded = loaded
        self._deliver = deliver
        self._waiting: deque[Sequence] = deque()
        self._current: Sequence | None = None

    @property
    def has_work(self) -> bool:
        return bool(self._waiting)

    @property
    def running(self) -> list[Sequence]:
        return [self._current] if self._current else []

    @property
    def waiting(self) -> list[Sequence]:
        return list(self._waiting)

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def step(self) -> list[Event]:
        sequence = self._current = self._waiting.popleft()
        try:
            return [] if sequence.is_over else self._answered(sequence)
        except Exception as error:  # whatever a model may raise harms this request alone
            logger.exception("a request failed", extra={"request_id": sequence.id})
            return [Event(sequence, finish="error", error=f"the model failed: {type(error).__name__}: {error}"[:300])]
        finally:
            self._current = None

    def _answered(self, sequence: Sequence) -> list[Event]:
        def wants_more(token: int) -> bool:
            self.steps += 1
            sequence.tokens.append(token)
            self._deliver([Event(sequence, token)])
            return not self._is_done(sequence)

        if not self._is_done(sequence):
            generate(self._loaded, sequence, wants_more)
        if sequence.is_over:
            return []
        if sequence.tokens[-1] in sequence.end_ids and len(sequence.tokens) > sequence.prompt_tokens:
            return [Event(sequence, finish="stop")]
        return [Event(sequence, finish="deadline" if time.monotonic() >= sequence.ends_at else "length")]

    def _is_done(self, sequence: Sequence) -> bool:
        return sequence.is_over or time.monotonic() >= sequence.ends_at
