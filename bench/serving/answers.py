"""What came of a trace, and the figures of it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import percentile

GOOD_FIRST_S = 0.2
GOOD_GAP_S = 0.05


@dataclass(slots=True)
class Answer:
    """Seconds from the start of the run. ``token_s`` may be empty where a contestant does not tell each token's."""

    asked_s: float
    done_s: float = math.nan
    token_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        return self.token_s[0] - self.asked_s if self.token_s else math.nan

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in zip(self.token_s, self.token_s[1:], strict=False)]

    @property
    def is_good(self) -> bool:
        gap = percentile(self.gaps_s, 0.95) if len(self.token_s) > 1 else 0.0
        return self.first_s <= GOOD_FIRST_S and gap <= GOOD_GAP_S


class Stopwatch:
    """Of a run: seconds, and those of the process's CPU, which neighbours on a shared machine do not change."""

    def __init__(self) -> None:
        self._began, self._cpu_began = time.perf_counter(), time.process_time()
        self.busy_s = self.busy_cpu_s = math.nan

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self._began

    def note_last_question(self) -> None:
        """From here on fewer and fewer users wait: what comes later says nothing about so many."""
        self.busy_s, self.busy_cpu_s = self.now_s, time.process_time() - self._cpu_began

    def since(self, perf_counter_s: float) -> float:
        return perf_counter_s - self._began


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant on one trace. NaN: not told by this contestant. ``busy`` is the time in which all users ask."""

    contestant: str
    load: str
    tokens_per_s: float
    busy_tokens_per_s: float
    busy_tokens_per_cpu_s: float
    good_per_s: float
    first_ms: tuple[float, float]  # p50, p99
    gap_ms: tuple[float, float, float]  # p50, p95, p99
    worst_gap_ms: float
    whole_ms: tuple[float, float, float]  # mean, p50, p99
    answers: int
    seconds: float
    host_ms: float = math.nan  # p50, of a step
    padding: float = math.nan  # share of rows that were nobody's, in recorded steps
    prefix_hits: float = math.nan  # share of prompt tokens that were found in the cache


def run_of(contestant: str, load: str, answers: Sequence[Answer], watch: Stopwatch, **more: float) -> Run:
    seconds = max(answer.done_s for answer in answers)
    first = [answer.first_s * 1000 for answer in answers if answer.token_s]
    gaps = [gap * 1000 for answer in answers for gap in answer.gaps_s]
    whole = [(answer.done_s - answer.asked_s) * 1000 for answer in answers]
    in_busy = sum(at <= watch.busy_s for answer in answers for at in answer.token_s)
    return Run(
        contestant,
        load,
        tokens_per_s=sum(len(answer.tokens) for answer in answers) / seconds,
        busy_tokens_per_s=in_busy / watch.busy_s,
        busy_tokens_per_cpu_s=in_busy / watch.busy_cpu_s,
        good_per_s=sum(answer.is_good for answer in answers) / seconds if first else math.nan,
        first_ms=(percentile(first, 0.5), percentile(first, 0.99)),
        gap_ms=(percentile(gaps, 0.5), percentile(gaps, 0.95), percentile(gaps, 0.99)),
        worst_gap_ms=max(gaps, default=math.nan),
        whole_ms=(sum(whole) / len(whole), percentile(whole, 0.5), percentile(whole, 0.99)),
        answers=len(answers),
        seconds=seconds,
        **more,
    )
