"""The engine for models on this machine: many requests at once, batched token by token.

Callers' threads make prompts, one thread owns the model (``loop``), one turns tokens into text (``dispatcher``).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping

import torch

from inference.base import Engine, EngineStats, GenRequest, SamplingParams
from inference.engines.local.answer import AnswerWriter
from inference.engines.local.assembly import assemble
from inference.engines.local.core import Core, PagedCore
from inference.engines.local.dispatcher import Dispatcher
from inference.engines.local.limits import PAGE_TOKENS, EngineLimits
from inference.engines.local.loop import EngineLoop
from inference.engines.local.meter import Meters
from inference.engines.local.model import LocalModel
from inference.engines.local.prompt import Prompt, PromptBuilder
from inference.engines.local.reply import LocalReply
from inference.engines.local.sequence import Sampling, Sequence
from inference.engines.local.vision import vision_of
from inference.engines.replies import Roster, check_request
from inference.engines.tool_splitter import offered
from inference.errors import EngineDown, QueueFull

_RETRY_AFTER_S = 2.0
_LONGEST_DELIVERY_S = 5.0


class LocalEngine(Engine):
    """``template_options`` go to the chat template (``enable_thinking``); ``torch_threads`` limit only our thread."""

    def __init__(
        self,
        loaded: LocalModel,
        limits: EngineLimits | None = None,
        *,
        template_options: Mapping[str, object] | None = None,
        torch_threads: int | None = None,
    ) -> None:
        self._loaded = loaded
        self._limits = limits or EngineLimits()
        with _threads(torch_threads):
            self._assembly = assemble(loaded, self._limits)
        vision = vision_of(loaded.model, loaded.image_processor)
        self._prompts = PromptBuilder(loaded.tokenizer, self._assembly.context_tokens, template_options, vision)
        self._roster = Roster()
        self._entering = threading.Lock()
        self._meters = Meters()
        self._dispatcher = Dispatcher()
        deliver = self._dispatcher.deliver
        self._loop = EngineLoop(lambda: self._assembly.build(deliver), deliver, self._meters.host, torch_threads)

    def submit(self, request: GenRequest) -> LocalReply:
        check_request(request)
        if self._loop.has_given_up:
            raise EngineDown("the engine broke too often and gave up; restart the worker")
        prompt = self._prompts.build(request.messages, request.sampling.max_new_tokens, offered(request))
        sequence = self._sequence(request, prompt)
        sequence.listener = reply = LocalReply(
            request, self._roster, sequence, self._writer(request, prompt), self._meters
        )
        self._enter(reply)
        self._loop.add(sequence)
        return reply

    def stats(self) -> EngineStats:
        core = self._loop.core
        count = len(self._roster)
        running = min(count, len(core.running)) if core else 0
        return EngineStats(
            running=running,
            waiting=count - running,
            restarts=self._loop.restarts,
            oldest_wait_s=_oldest_wait_s(core),
            path=self._assembly.path,
            path_reason=self._assembly.reason,
            has_given_up=self._loop.has_given_up,
            tokens_per_s=self._meters.tokens.per_s(),
            first_token_ms=self._meters.first_token.spread(),
            between_tokens_ms=self._meters.between_tokens.spread(),
            host_ms=self._meters.host.spread(),
            **(_cache_stats(core) if isinstance(core, PagedCore) else {}),
        )

    def drain(self, deadline_s: float) -> None:
        self._roster.drain(deadline_s)

    def close(self) -> None:
        """Ends what runs, waits for the threads."""
        self._roster.drain(0)
        self._loop.close()
        self._assembly.close()
        self._dispatcher.close(_LONGEST_DELIVERY_S)

    def _enter(self, reply: LocalReply) -> None:
        limits = self._limits
        with self._entering:
            if len(self._roster) >= limits.max_running + limits.max_waiting:
                raise QueueFull(f"{limits.max_waiting} requests are waiting", _RETRY_AFTER_S)
            self._roster.admit(reply)

    def _sequence(self, request: GenRequest, prompt: Prompt) -> Sequence:
        now = time.monotonic()
        return Sequence(
            request.id,
            prompt.ids,
            prompt.max_new_tokens,
            _sampling(request.sampling),
            self._loaded.end_ids,
            scope=request.cache_scope.encode(),
            priority=request.priority,
            picture=prompt.picture,
            arrived_at=now,
            ends_at=float("inf") if request.deadline_s is None else now + request.deadline_s,
        )

    def _writer(self, request: GenRequest, prompt: Prompt) -> AnswerWriter:
        return AnswerWriter(
            self._loaded.tokenizer.backend_tokenizer,
            self._loaded.end_ids,
            request.sampling.stop,
            opens_reasoning=prompt.opens_reasoning,
            tools=offered(request),
        )


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Torch's own count is one for each thread that uses it."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    yield
    torch.set_num_threads(before)


def _sampling(wanted: SamplingParams) -> Sampling:
    """What stays None leaves all candidates in; without a temperature the answer is greedy."""
    seed = int.from_bytes(os.urandom(7)) if wanted.seed is None else wanted.seed % 2**63
    return Sampling(wanted.temperature or 0.0, 1.0 if wanted.top_p is None else wanted.top_p, wanted.top_k or 0, seed)


def _oldest_wait_s(core: Core | None) -> float:
    arrivals = [sequence.arrived_at for sequence in core.waiting] if core else []
    return time.monotonic() - min(arrivals) if arrivals else 0.0


def _cache_stats(core: PagedCore) -> dict[str, int]:
    return {
        "kv_used_tokens": core.pool.used * PAGE_TOKENS,
        "kv_total_tokens": core.pool.count * PAGE_TOKENS,
        "prefix_hit_tokens": core.scheduler.prefix_hit_tokens,
        "preemptions": core.scheduler.preemptions,
        "steps": core.steps,
    }
