"""The answer that a caller reads, on its way from token ids to text."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator

from inference.base import Delta, Finish, GenRequest, Usage
from inference.engines.local.answer import AnswerWriter
from inference.engines.local.meter import Meters
from inference.engines.local.sequence import Sequence
from inference.engines.replies import Roster, TrackedReply


class LocalReply(TrackedReply):
    """Filled by the dispatcher's thread, read by any other. What ends it first wins; later deltas are dropped."""

    def __init__(
        self, request: GenRequest, roster: Roster, sequence: Sequence, writer: AnswerWriter, meters: Meters
    ) -> None:
        super().__init__(request, roster)
        self.has_ended = False
        self._sequence = sequence
        self._writer = writer
        self._meters = meters
        self._last_token_at: float | None = None
        self._lock = threading.Lock()
        self._made: queue.SimpleQueue[Delta] = queue.SimpleQueue()

    def take(self, token: int | None, finish: Finish | None, error: str) -> None:
        """The next token, the end, or both."""
        if self.has_ended:
            return
        if token is not None:
            self._measure()
            for delta in self._writer.feed(token):
                self._emit(delta)
            self.usage = Usage(self._sequence.prompt_tokens, self._writer.token_count)
            finish = self._writer.finish or finish
        if finish:
            for delta in self._writer.close():
                self._emit(delta)
            self._emit(Delta(finish=finish, error=error))

    def wake(self) -> None:
        """A cancelled reply ends at once, though the model may still be in the middle of a step."""
        if finish := self.ending():
            self._emit(Delta(finish=finish))

    def deltas(self) -> Generator[Delta]:
        while True:
            try:
                yield self._made.get(timeout=self.remaining_s())
            except queue.Empty:
                self._emit(Delta(finish="deadline"))

    def _emit(self, delta: Delta) -> None:
        with self._lock:
            if self.has_ended:
                return
            self.has_ended = delta.finish is not None
            self._made.put(delta)
        if delta.finish:
            self._sequence.is_over = True
            self._roster.leave(self)

    def _measure(self) -> None:
        now = time.monotonic()
        if self._last_token_at is None:
            self._meters.first_token.note(now - self._sequence.arrived_at)
        else:
            self._meters.between_tokens.note(now - self._last_token_at)
        self._meters.tokens.note(1)
        self._last_token_at = now
