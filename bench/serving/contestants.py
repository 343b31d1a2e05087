"""Who is measured: our engine's core, plain ``generate``, and static batches. Bare continuous batching is apart.

All run in this process and with weights of the same seed; the clock of a run starts with its first question.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence as Asks
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from bench.figures import percentile
from bench.serving.answers import Answer, Run, Stopwatch, run_of
from bench.serving.shapes import Shape, make
from bench.serving.traces import Ask
from inference.engines.local.assembly import assemble
from inference.engines.local.core import PagedCore
from inference.engines.local.graphs import GraphRunner
from inference.engines.local.limits import EngineLimits
from inference.engines.local.sequence import Sequence

_settings: Any = GenerationConfig  # it has no types


class Contestant(Protocol):
    name: str

    def serve(self, asks: Asks[Ask], users: int | None, load: str) -> tuple[Run, list[Answer]]:
        """So many users who ask again when they were answered; None: each question when it is due."""

    def close(self) -> None: ...


class Ours:
    """The core that the engine's thread drives, driven here; every run begins with an empty cache."""

    name = "ours"

    def __init__(self, shape: Shape, device: str, limits: EngineLimits) -> None:
        self.loaded = make(shape, device)
        self._assembly = assemble(self.loaded, limits)
        if self._assembly.path != "paged":
            raise RuntimeError(self._assembly.reason)
        self._core: PagedCore | None = None

    def fresh(self) -> PagedCore:
        """On a GPU the steps are recorded once only: there the cache is emptied by what comes next."""
        if self._core is None or self.loaded.device.type == "cpu":
            core = self._assembly.build(lambda events: None)
            assert isinstance(core, PagedCore)
            self._core = core
        return self._core

    def serve(self, asks: Asks[Ask], users: int | None, load: str) -> tuple[Run, list[Answer]]:
        core = self.fresh()
        hits, steps = core.scheduler.prefix_hit_tokens, core.steps
        runner = core.runner
        rows, padded = (runner.rows, runner.padded_rows) if isinstance(runner, GraphRunner) else (0, 0)
        watch = Stopwatch()
        answers, host_ms = drive(core, asks, users, watch)
        more = {
            "host_ms": percentile(host_ms, 0.5),
            "prefix_hits": (core.scheduler.prefix_hit_tokens - hits) / sum(len(ask.prompt) for ask in asks),
        }
        if isinstance(runner, GraphRunner) and runner.padded_rows > padded:
            more["padding"] = 1 - (runner.rows - rows) / (runner.padded_rows - padded)
        assert core.steps > steps
        return run_of(self.name, load, answers, watch, **more), answers

    def close(self) -> None:
        self._core = None
        self._assembly.close()


def drive(core: PagedCore, asks: Asks[Ask], users: int | None, watch: Stopwatch) -> tuple[list[Answer], list[float]]:
    """Returns the answers, and what each step cost besides the model, in milliseconds."""
    todo, answers, host_ms = deque(enumerate(asks)), [Answer(ask.due_s) for ask in asks], []
    at_of: dict[Sequence, int] = {}

    def ask(due_s: float | None) -> None:
        at, asked = todo.popleft()
        now = watch.now_s
        answers[at].asked_s = now if due_s is None else due_s
        sequence = Sequence(str(at), list(asked.prompt), asked.new_tokens, arrived_at=time.monotonic())
        at_of[sequence] = at
        core.add(sequence)
        if not todo and (users is None or users < len(asks)):
            watch.note_last_question()

    for _ in range(min(users or 0, len(todo))):
        ask(None)
    while todo or core.has_work:
        while users is None and todo and todo[0][1].due_s <= watch.now_s:
            ask(todo[0][1].due_s)
        if not core.has_work:
            time.sleep(max(0.0, todo[0][1].due_s - (watch.now_s)))
            continue
        events, now = core.step(), watch.now_s
        host_ms.append(core.host_s * 1000)
        for event in events:
            if event.error:
                raise RuntimeError(event.error)
            answer = answers[at_of[event.sequence]]
            if event.token is not None:
                answer.token_s.append(now)
                answer.tokens.append(event.token)
            if event.finish:
                answer.done_s = now
                if users is not None and todo:
                    ask(None)
    if users is not None and users >= len(asks):
        watch.note_last_question()
    return answers, host_ms


class _Clock(StoppingCriteria):
    """Notes when each step of ``generate`` was done."""

    def __init__(self, watch: Stopwatch) -> None:
        self.step_s: list[float] = []
        self._watch = watch

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        if input_ids.is_cuda:
            torch.cuda.synchronize()
        self.step_s.append(self._watch.now_s)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class Static:
    """``generate`` for as many questions as there are, at most ``size``: all wait for the longest answer. 1: plain."""

    def __init__(self, shape: Shape, device: str, size: int) -> None:
        self.name = f"static {size}" if size > 1 else "plain generate"
        self._loaded = make(shape, device)
        self._size = size

    def serve(self, asks: Asks[Ask], users: int | None, load: str) -> tuple[Run, list[Answer]]:
        """Users beyond the size wait: it takes whoever asked first."""
        watch = Stopwatch()
        answers: list[Answer] = []
        last_asked_after = len(asks) - (users or 0) if users and users < len(asks) else len(asks)
        for first in range(0, len(asks), self._size):
            batch = asks[first : first + self._size]
            begun_s = watch.now_s
            answers += self._answered(batch, watch)
            if first < last_asked_after <= len(answers):
                watch.note_last_question()
            for at, answer in enumerate(answers[first:], first):
                answer.asked_s = self._asked_s(at, users, answers, begun_s)
        return run_of(self.name, load, answers, watch), answers

    def _asked_s(self, at: int, users: int | None, answers: list[Answer], begun_s: float) -> float:
        """A user asks when answered; of the users, the one who was answered so many questions ago."""
        if users is None or users <= self._size:
            return begun_s
        return answers[at - users].done_s if at >= users else 0.0

    @torch.inference_mode()
    def _answered(self, batch: Asks[Ask], watch: Stopwatch) -> list[Answer]:
        longest = max(len(ask.prompt) for ask in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, ask in enumerate(batch):
            ids[row, longest - len(ask.prompt) :] = torch.tensor(ask.prompt)
            mask[row, longest - len(ask.prompt) :] = 1
        clock = _Clock(watch)
        device = self._loaded.device
        out = self._loaded.model.generate(
            ids.to(device),
            attention_mask=mask.to(device),
            generation_config=_settings(
                max_new_tokens=max(ask.new_tokens for ask in batch), do_sample=False, eos_token_id=None, pad_token_id=0
            ),
            stopping_criteria=StoppingCriteriaList([clock]),
        )[:, longest:].tolist()
        return [
            Answer(0.0, clock.step_s[ask.new_tokens - 1], clock.step_s[: ask.new_tokens], row[: ask.new_tokens])
            for ask, row in zip(batch, out, strict=True)
        ]

    def close(self) -> None:
        pass
