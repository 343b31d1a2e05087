"""The goals of the engine, and whether a run reached them: computed from its results, never written by hand. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.serving.answers import Run
from bench.serving.parts import Results

CPU_RATE = "busy_tokens_per_cpu_s"  # one thread: what it does in a second of CPU, whoever else has the machine
RATE = "busy_tokens_per_s"
STEADY = 0.1  # where our own runs differ by more, a ratio says nothing

_ELSEWHERE = {
    "I1": ("500 mixed requests get the tokens of generate", "tests/inference/engines/local/test_local_tokens.py"),
    "I2": ("a poisoned request changes no other", "tests/inference/engines/local/test_local_poison.py"),
    "I4": ("every reply ends once", "tests/inference/engines/local/test_local_ends.py"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``word``: reached, missed, by test, or not measured, and then ``found`` says why."""

    goal: str
    what: str
    wanted: str
    found: str
    word: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours to another's, the median of the rounds. ``spread``: how far our own runs are apart."""

    value: float
    spread: float
    rounds: int

    @property
    def is_steady(self) -> bool:
        return self.rounds > 1 and self.spread <= STEADY

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "not measured"
        if self.rounds == 1:
            return f"{self.value:.1f}x in the only round: too few to judge by"
        if not self.is_steady:
            return f"no ratio: our own runs differ by {self.spread:.0%}"
        return f"{self.value:.1f}x"


def ratio(rounds: Sequence[Sequence[Run]], other: str, figure: str) -> Ratio:
    """``figure`` is the name of a rate, or ``whole``: the mean time of an answer, theirs to ours.

    Who ran in the first round only, for want of time, is compared with all of ours.
    """
    theirs = [_figure(run, figure) for runs in rounds for run in runs if run.contestant == other]
    if not theirs:
        return Ratio(math.nan, math.nan, 0)
    own = [_figure(runs[0], figure) for runs in rounds]
    values = [mine / theirs[min(at, len(theirs) - 1)] for at, mine in enumerate(own)]
    return Ratio(median(values), max(own) / min(own) - 1, len(own))


def _figure(run: Run, name: str) -> float:
    return 1 / run.whole_ms[0] if name == "whole" else float(getattr(run, name))


def verdicts(results: Results, *, is_gpu: bool) -> list[Verdict]:
    found = [
        Verdict(goal, what, "", f"not a figure: {where} holds it", "by test")
        for goal, (what, where) in _ELSEWHERE.items()
    ]
    found += _bar(results, RATE if is_gpu else CPU_RATE) + _followup(results)
    found += _on_gpu(results) if is_gpu else _on_cpu(results)
    return sorted(found, key=lambda verdict: int(verdict.goal[1:]))


def _on_cpu(results: Results) -> list[Verdict]:
    named = [(8.0, "plain generate"), (5.0, "static 16"), (2.0, "bare batching")]
    found = [_at_least("I3", f"chat, against {o}", limit, ratio(results.rounds, o, CPU_RATE)) for limit, o in named]
    found += _long(results, "I3", [(12.0, "64 x 768")], CPU_RATE)
    demo = results.demo
    found.append(_at_most("I5", "demo model: first text, p99", 100.0, demo.first_ms[1] if demo else math.nan, " ms"))
    found.append(_at_most("I5", "demo model: answer, p99", 300.0, demo.whole_ms[2] if demo else math.nan, " ms"))
    return found + [Verdict(f"I{at}", "on a GPU", "", "needs a GPU", "not measured") for at in range(6, 11)]


def _on_gpu(results: Results) -> list[Verdict]:
    speeds = {(d.shape, d.batch): d for d in results.decode}
    found = [Verdict(goal, "on a CPU", "", "needs a run on a CPU", "not measured") for goal in ("I3", "I5")]
    for batch, share, rate in ((1, 0.60, None), (64, 0.55, 6000.0), (256, 0.50, 10_000.0)):
        large = speeds.get(("Qwen3-8B", batch))
        reached = large.share * 100 if large else math.nan
        found.append(_least("I6", f"Qwen3-8B, batch {batch}: of the roofline", share * 100, reached, " %"))
        if rate:
            speed = large.tokens_per_s if large else math.nan
            found.append(_least("I6", f"Qwen3-8B, batch {batch}", rate, speed, " tokens/s"))
    for batch, rate in ((1, 400.0), (64, 12_500.0), (256, 17_500.0)):
        small = speeds.get(("Qwen3-0.6B", batch))
        speed = small.tokens_per_s if small else math.nan
        found.append(_least("I7", f"Qwen3-0.6B, batch {batch}", rate, speed, " tokens/s"))
    for limit, other in ((50.0, "plain generate"), (4.0, "static 64")):
        found.append(_at_least("I8", f"chat, against {other}", limit, ratio(results.rounds, other, RATE)))
    found += _long(results, "I8", [(5.0, "64 x 1024"), (10.0, "256 x 1024")], RATE)
    loaded = [run for run in results.loops if "Poisson, 70%" in run.load]
    for name, at, limit in (("p50", 0, 50.0), ("p99", 1, 200.0)):
        value = loaded[0].first_ms[at] if loaded else math.nan
        found.append(_at_most("I9", f"first token at 70 % load, {name} (the engine alone)", limit, value, " ms"))
    busiest = [d.host_ms for d in results.decode if d.batch == 256]
    found.append(_at_most("I10", "host work a step, batch 256", 1.5, max(busiest, default=math.nan), " ms"))
    mixed = [run for run in results.loops if run.load == "bot, 64 users"]
    gap = mixed[0].gap_ms[2] / mixed[0].gap_ms[0] if mixed else math.nan
    found.append(_at_most("I10", "gap p99 to p50 while long prompts arrive", 2.0, gap, "x"))
    return found


def _long(results: Results, goal: str, limits: list[tuple[float, str]], rate_name: str) -> list[Verdict]:
    """One for each way in which a length was cut into prompt and answer."""
    found = []
    for limit, length in limits:
        titles = [title for title in results.long_rounds if title.startswith(length)] or [length]
        for title in titles:
            rate = ratio(results.long_rounds.get(title, []), "bare batching", rate_name)
            found.append(_at_least(goal, f"{title}, against bare batching", limit, rate))
    return found


def _bar(results: Results, rate_name: str) -> list[Verdict]:
    """The same weights and type, the same questions of 16 people at once."""
    rate, latency = (ratio(results.bar_rounds, "plain generate", figure) for figure in (rate_name, "whole"))
    return [
        _at_least("I12", "tokens/s against plain generate, same weights", 2.5, rate),
        _at_least("I12", "time of an answer against plain generate (-40 % is 1.67x)", 1 / 0.6, latency),
    ]


def _followup(results: Results) -> list[Verdict]:
    what = "first token of a follow-up after 2k tokens, to that of a first turn"
    found = {f"{what}, {shape}": next_ms / first_ms for shape, (first_ms, next_ms) in results.followups.items()}
    return [_at_most("I11", title, 1.3, value, "x") for title, value in (found or {what: math.nan}).items()]


def _at_least(goal: str, what: str, limit: float, found: Ratio) -> Verdict:
    is_known = found.is_steady and not math.isnan(found.value)
    word = ("reached" if found.value >= limit else "missed") if is_known else "not measured"
    return Verdict(goal, what, f"at least {limit:.2g}x", str(found), word)


def _least(goal: str, what: str, limit: float, found: float, unit: str) -> Verdict:
    word = "not measured" if math.isnan(found) else "reached" if found >= limit else "missed"
    return Verdict(goal, what, f"at least {limit:,.0f}{unit}", _shown(found, unit), word)


def _at_most(goal: str, what: str, limit: float, found: float, unit: str) -> Verdict:
    word = "not measured" if math.isnan(found) else "reached" if found <= limit else "missed"
    return Verdict(goal, what, f"at most {limit:g}{unit}", _shown(found, unit), word)


def _shown(value: float, unit: str) -> str:
    return "no time was left, or the part was not asked for" if math.isnan(value) else f"{value:,.4g}{unit}"
