"""The engine for models on this machine: a bounded waiting list, and one thread that owns the model.

For now it answers one request at a time; what a step of the model is, is known to ``generation`` alone.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Generator, Mapping

import torch

from inference.base import Delta, Engine, EngineStats, Finish, GenRequest, Usage
from inference.engines.local.answer import Answer
from inference.engines.local.generation import generate
from inference.engines.local.model import LocalModel
from inference.engines.local.prompt import Prompt, PromptBuilder
from inference.engines.replies import Roster, TrackedReply, check_request
from inference.errors import BadRequest, QueueFull

logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 2.0
_LONGEST_STEP_S = 30.0


class LocalEngine(Engine):
    """``template_options`` go to the chat template (``enable_thinking``); ``torch_threads`` limit only our thread."""

    def __init__(
        self,
        loaded: LocalModel,
        *,
        max_waiting: int = 32,
        max_context_tokens: int | None = None,
        template_options: Mapping[str, object] | None = None,
        torch_threads: int | None = None,
    ) -> None:
        self._loaded = loaded
        context_tokens = min(loaded.context_tokens, max_context_tokens or loaded.context_tokens)
        self._prompts = PromptBuilder(loaded.tokenizer, context_tokens, template_options)
        self._max_waiting = max_waiting
        self._torch_threads = torch_threads
        self._roster = Roster()
        self._changed = threading.Condition()
        self._waiting: deque[LocalReply] = deque()
        self._is_busy = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="local-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenRequest) -> LocalReply:
        check_request(request)
        if any(message.images for message in request.messages):
            raise BadRequest("this model does not read pictures")
        prompt = self._prompts.build(request.messages, request.sampling.max_new_tokens)
        reply = LocalReply(request, self._roster, prompt)
        with self._changed:
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.has_ended)
            if len(self._waiting) + self._is_busy > self._max_waiting:
                raise QueueFull(f"{self._max_waiting} requests are waiting", _RETRY_AFTER_S)
            self._roster.admit(reply)
            self._waiting.append(reply)
            self._changed.notify()
        return reply

    def stats(self) -> EngineStats:
        with self._changed:
            waiting = sum(not reply.has_ended for reply in self._waiting)
        return EngineStats(running=max(0, len(self._roster) - waiting), waiting=waiting)

    def drain(self, deadline_s: float) -> None:
        self._roster.drain(deadline_s)

    def close(self) -> None:
        """Ends what runs, waits for the thread: a process that exits inside torch crashes."""
        self._roster.drain(0)
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(_LONGEST_STEP_S)

    # -- the engine's thread ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        if self._torch_threads is not None:
            torch.set_num_threads(self._torch_threads)
        while (reply := self._next()) is not None:
            try:
                self._answer(reply)
            except Exception as error:  # the outermost loop: a broken request must not harm the next one
                logger.exception("answer failed", extra={"request_id": reply.request.id})
                reason = f"the model failed: {type(error).__name__}: {error}"
                reply.emit(Delta(finish="error", error=reason[:300]))

    def _next(self) -> LocalReply | None:
        with self._changed:
            self._is_busy = False
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._is_busy = bool(self._waiting)
            return self._waiting.popleft() if self._waiting else None

    def _answer(self, reply: LocalReply) -> None:
        answer = Answer(
            self._loaded.tokenizer.backend_tokenizer,
            self._loaded.end_ids,
            reply.request.sampling.stop,
            opens_reasoning=reply.prompt.opens_reasoning,
        )

        def wants_more(token: int) -> bool:
            for delta in answer.feed(token):
                reply.emit(delta)
            reply.usage = Usage(len(reply.prompt.ids), answer.token_count)
            return answer.finish is None and reply.ending() is None

        if reply.ending() is None:
            generate(self._loaded, reply.prompt, reply.request.sampling, wants_more)
        for delta in answer.close():
            reply.emit(delta)
        reply.emit(Delta(finish=answer.finish or reply.ending() or "length"))


class LocalReply(TrackedReply):
    """Filled by the engine's thread, read by any other. What ends it first wins; later deltas are dropped."""

    def __init__(self, request: GenRequest, roster: Roster, prompt: Prompt) -> None:
        super().__init__(request, roster)
        self.prompt = prompt
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Delta] = queue.SimpleQueue()
        self.has_ended = False

    def emit(self, delta: Delta) -> None:
        with self._lock:
            if self.has_ended:
                return
            self.has_ended = delta.finish is not None
            self._queue.put(delta)
        if delta.finish:
            self._roster.leave(self)

    def wake(self) -> None:
        """A cancelled reply ends at once, though the model may still be in the middle of a step."""
        self._end(self.ending())

    def deltas(self) -> Generator[Delta]:
        while True:
            try:
                yield self._queue.get(timeout=self.remaining_s())
            except queue.Empty:
                self._end("deadline")

    def _end(self, finish: Finish | None) -> None:
        if finish:
            self.emit(Delta(finish=finish))
