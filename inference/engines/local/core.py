"""Continuous batching: each call of ``step`` plans, runs and accounts for one step of the model.

One thread's. What a step brought comes back as events, to be told by somebody who has the time.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from inference.engines.local.limits import EngineLimits
from inference.engines.local.pages import PagePool
from inference.engines.local.runner import Launched, StepRunner
from inference.engines.local.sampling import NO_NUMBERS
from inference.engines.local.scheduler import Scheduler
from inference.engines.local.sequence import Event, Row, Sequence

logger = logging.getLogger(__name__)

_MAX_FAILED_STEPS = 3


class Core(Protocol):
    """What the engine's thread drives."""

    @property
    def has_work(self) -> bool: ...
    @property
    def running(self) -> list[Sequence]: ...
    @property
    def waiting(self) -> list[Sequence]: ...
    @property
    def host_s(self) -> float:
        """What the last step cost besides the model."""

    def add(self, sequence: Sequence) -> None: ...
    def step(self) -> list[Event]: ...


class ModelBroken(Exception):
    """Step after step fails, whatever it computes."""


class PagedCore:
    """``look_ahead``: launch a step before the tokens of the last one are known, where launching costs no waiting."""

    def __init__(self, runner: StepRunner, pool: PagePool, limits: EngineLimits, *, look_ahead: bool) -> None:
        self.pool = pool
        self.scheduler = Scheduler(pool, limits)
        self.steps = 0
        self.host_s = 0.0  # of the last step: what is not the model's
        self.runner = runner
        self._look_ahead = look_ahead
        self._pending: Launched | None = None
        self._failed_steps = 0
        self._last_done_at = 0.0
        self._waited_s = 0.0  # for the device, in the last step

    @property
    def has_work(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting or self._pending)

    @property
    def running(self) -> list[Sequence]:
        return self.scheduler.running

    @property
    def waiting(self) -> list[Sequence]:
        return list(self.scheduler.waiting)

    def add(self, sequence: Sequence) -> None:
        self.scheduler.add(sequence)

    def step(self) -> list[Event]:
        began_at = time.monotonic()
        self._waited_s = 0.0
        events = self.scheduler.sweep(began_at)
        plan = self.scheduler.plan(began_at)
        planned_at = time.monotonic()
        try:
            launched = self._launched(plan) if plan else None
        except Exception:  # whatever a model may raise: find the row that it cannot bear
            logger.warning("a step failed; its rows are tried one by one", exc_info=True)
            return events + self._absorbed(self._swapped(None)) + self._one_by_one(plan)
        launched_at = time.monotonic()
        events += self._absorbed(self._swapped(launched) if self._look_ahead else launched)
        ended_at = time.monotonic()
        if self._look_ahead:  # the launch is the host's work, and what is waited for is the model's
            self.host_s = ended_at - began_at - self._waited_s
        else:
            self.host_s = ended_at - launched_at + planned_at - began_at
        return events

    def _launched(self, plan: list[Row]) -> Launched:
        began_at = time.monotonic()
        launched = self.runner.launch(plan)
        launched.began_at = began_at
        self.scheduler.advance(plan)
        self.steps += 1
        self._failed_steps = 0
        return launched

    def _swapped(self, launched: Launched | None) -> Launched | None:
        done, self._pending = self._pending, launched
        return done

    def _absorbed(self, done: Launched | None) -> list[Event]:
        if done is None:
            return []
        asked_at = time.monotonic()
        ids = done.ids()
        self._waited_s = time.monotonic() - asked_at
        self._note_time(done)
        self.scheduler.share(done.plan)  # before anything ends: what ends keeps its pages no longer
        for sequence, token in zip(done.sampled, ids, strict=True):
            if token == NO_NUMBERS:
                self._clean(sequence)
        return self.scheduler.absorb(done.sampled, ids)

    def _note_time(self, done: Launched) -> None:
        """Steps run one after the other: this one began when it was launched, or when the one before was done."""
        now = time.monotonic()
        prompts = [row.count for row in done.plan if not (row.count == 1 and row.samples)]
        step_s = now - max(self._last_done_at, done.began_at)
        self._last_done_at = now
        self.scheduler.budget.note(step_s, sum(prompts), others_waited=len(prompts) < len(done.plan))

    def _clean(self, sequence: Sequence) -> None:
        if own := self.pool.forget(sequence):
            self.runner.scrub(own)

    def _one_by_one(self, plan: list[Row]) -> list[Event]:
        """A step that failed for want of memory may do in parts; one that a request breaks fails that one alone."""
        self._failed_steps += 1
        if self._failed_steps > _MAX_FAILED_STEPS:
            raise ModelBroken(f"{_MAX_FAILED_STEPS} steps in a row failed")
        events = []
        for row in plan:
            if row.sequence.is_over:
                continue
            try:
                events += self._absorbed(self._launched([row]))
            except Exception as error:  # whatever a model may raise harms this row alone
                logger.exception("a request failed", extra={"request_id": row.sequence.id})
                self._clean(row.sequence)
                self.scheduler.end(row.sequence)
                reason = f"the model failed: {type(error).__name__}: {error}"
                events.append(Event(row.sequence, finish="error", error=reason[:300]))
        return events
