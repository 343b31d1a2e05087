"""What the next step computes, and for whom. Pure: knows no model and no tensor.

Every running sequence that waits for its next token gets a row; what is left of the step goes to prompts, in chunks.
Memory is given page by page; when it runs out, the youngest sequence gives way and is computed again later.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice

from inference.engines.local.budget import PrefillBudget
from inference.engines.local.limits import PAGE_TOKENS, EngineLimits
from inference.engines.local.pages import PagePool
from inference.engines.local.sequence import Event, Row, Sequence, pages_for

_LOOKED_AT = 32  # of the waiting sequences; the shortest of these may jump ahead

Plan = list[Row]


class Scheduler:
    """One thread's. A step is ``plan``, ``advance`` when it was launched, ``share`` and ``absorb`` when it is done."""

    def __init__(self, pool: PagePool, limits: EngineLimits) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in the order in which they are served
        self.preemptions = 0
        self.prefix_hit_tokens = 0
        self.budget = PrefillBudget(limits.prefill_tokens, limits.step_goal_s)
        self._pool = pool
        self._limits = limits
        self._has_shown = False  # the last step was a picture's
        self._free_slots = list(range(limits.max_running))[::-1]
        self._may_admit = True

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def sweep(self, now: float) -> list[Event]:
        """Let go of what nobody wants any more, and of what is late."""
        events = []
        for sequence in [s for s in chain(self.running, self.waiting) if s.is_over or now >= s.ends_at]:
            if not sequence.is_over:
                events.append(Event(sequence, finish="deadline"))
            self.end(sequence)
        return events

    def end(self, sequence: Sequence) -> None:
        sequence.is_over = True
        if sequence.is_running:
            self._stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    # -- a step -------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> Plan:
        """Rows of one token first, then chunks of prompts. Empty when there is nothing to do, or nothing yet."""
        self._may_admit = True
        while not (rows := self._rows(now)) and any(not sequence.is_written for sequence in self.running):
            self._preempt(self.running[-1])  # all have begun, and none has the memory to go on
        return rows

    def advance(self, plan: Plan) -> None:
        for row in plan:
            sampled = row.samples
            row.sequence.computed += row.count
            row.sequence.in_flight += sampled

    def share(self, plan: Plan) -> None:
        """The step is done: let others use the pages that it filled."""
        for row in plan:
            if row.sequence.is_running:
                self._pool.index(row.sequence)

    def absorb(self, sampled: list[Sequence], ids: list[int]) -> list[Event]:
        """``ids`` are the new tokens of these sequences, -1 where the model gave no numbers."""
        events = []
        for sequence, token in zip(sampled, ids, strict=True):
            sequence.in_flight -= 1
            if not sequence.is_over:
                events.append(self._absorbed(sequence, token))
        return events

    def _absorbed(self, sequence: Sequence, token: int) -> Event:
        if token < 0:
            self.end(sequence)
            return Event(sequence, finish="error", error="the model gave no numbers")
        sequence.tokens.append(token)
        if token in sequence.end_ids:
            self.end(sequence)
            return Event(sequence, token, "stop")
        if len(sequence.tokens) - sequence.prompt_tokens >= sequence.max_new_tokens:
            self.end(sequence)
            return Event(sequence, token, "length")
        return Event(sequence, token)

    # -- rows ---------------------------------------------------------------------------------------------------

    def _rows(self, now: float) -> Plan:
        singles = self._next_tokens()
        if not self._has_shown and (row := self._picture(now)):
            self._has_shown = True
            return [row]
        rows = singles + self._prompts(now, self.budget.tokens(others_wait=bool(singles)))
        is_pictures_turn = self._has_shown and not rows
        self._has_shown = False
        return self._rows(now) if is_pictures_turn else rows

    def _next_tokens(self) -> Plan:
        rows = []
        for sequence in list(self.running):
            if sequence.is_running and sequence.remaining == 1 and not sequence.is_written and self._reserve(sequence):
                rows.append(Row(sequence, sequence.computed, 1))
        return rows

    def _reserve(self, sequence: Sequence) -> bool:
        """Get the page of its next token, from the youngest if need be; false when it was itself the youngest."""
        while not self._pool.extend(sequence, pages_for(sequence.computed + 1)):
            self._preempt(self.running[-1])
            if not sequence.is_running:
                return False
        return True

    def _prompts(self, now: float, budget: int) -> Plan:
        rows: Plan = []
        for sequence in self._candidates(now):
            if budget <= 0:
                break
            if not sequence.is_running and not self._admit(sequence):
                continue
            if row := self._chunk(sequence, budget):
                rows.append(row)
                budget -= row.count
        return rows

    def _candidates(self, now: float, *, picture: bool = False) -> list[Sequence]:
        """Who waited too long, by age; then the shortest first."""
        begun = [s for s in self.running if s.remaining > 1 and not s.is_written]
        looked_at = islice(self.waiting, _LOOKED_AT) if self._free_slots and self._may_admit else ()
        waiting = [s for s in looked_at if not s.in_flight]  # else its last token is not known yet
        wanted = [s for s in begun + waiting if s.needs_picture == picture]
        return sorted(wanted, key=lambda s: self._rank(s, now))

    def _rank(self, sequence: Sequence, now: float) -> tuple[int, bool, float]:
        has_aged = now - sequence.arrived_at > self._limits.jump_ahead_s
        cached = 0 if sequence.is_running else len(self._pool.match(sequence)) * PAGE_TOKENS
        return (-sequence.priority, not has_aged, sequence.arrived_at if has_aged else sequence.remaining - cached)

    def _chunk(self, sequence: Sequence, budget: int) -> Row | None:
        """As much as fits into the step and into the pages that are free: prompts push nobody out."""
        room = (len(sequence.pages) + self._pool.available) * PAGE_TOKENS - sequence.computed
        count = min(sequence.remaining, budget, room)
        if count <= 0 or not self._pool.extend(sequence, pages_for(sequence.computed + count)):
            return None
        return Row(sequence, sequence.computed, count)

    # -- pictures: their prompt is computed in one go and alone; every other step is for the rest -----------------

    def _picture(self, now: float) -> Row | None:
        for sequence in self._candidates(now, picture=True):
            if not sequence.is_running and not self._admit(sequence):
                continue
            if sequence.needs_picture and self._pool.extend(sequence, pages_for(len(sequence.tokens))):
                # Of one that lost its pages, the prompt alone: the model may have written the sign of a picture itself.
                return Row(sequence, 0, min(sequence.remaining, sequence.prompt_tokens))
        return None

    # -- coming and going -----------------------------------------------------------------------------------------

    def _admit(self, sequence: Sequence) -> bool:
        """Begin it if its whole prompt fits right now. Once one had to wait, those behind it wait as well."""
        self._may_admit = self._may_admit and bool(self._free_slots) and self._adopt(sequence)
        if not self._may_admit:
            return False
        self.prefix_hit_tokens += sequence.computed
        self.waiting.remove(sequence)
        sequence.slot = self._free_slots.pop()
        self.running.append(sequence)
        self.running.sort(key=_seniority)
        return True

    def _adopt(self, sequence: Sequence) -> bool:
        self._pool.adopt(sequence, self._pool.match(sequence))  # first: what is shared must not be counted as free
        if sequence.needs_picture:
            self._pool.release(sequence)  # the model sees pictures only from the start
        if pages_for(len(sequence.tokens) + 1) - len(sequence.pages) <= self._pool.available:
            return True
        self._pool.release(sequence)
        return False

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free_slots.append(sequence.slot)
        sequence.slot = -1
        self._pool.release(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        """It loses its pages, not its tokens; what stays in the cache meanwhile is found again."""
        self._stop(sequence)
        self.waiting.appendleft(sequence)
        self._may_admit = False
        self.preemptions += 1


def _seniority(sequence: Sequence) -> tuple[int, float]:
    return (-sequence.priority, sequence.arrived_at)
