"""The parts of a run. Each adds to the results what it had the time for."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

import torch

from bench.figures import middle
from bench.serving import roofline, traces
from bench.serving.answers import Answer, Run, Stopwatch
from bench.serving.bare_batching import BareBatching
from bench.serving.contestants import Contestant, Ours, Static, drive
from bench.serving.plans import Plan
from bench.serving.roofline import Decode, Device
from bench.serving.shapes import SHAPES, Shape
from bench.serving.traces import Ask
from inference.engines.local.core import PagedCore

_SEED = 20261130
_COMPARED_USERS = 64
_BAR_USERS = 16
_LEAST_ROUNDS = 2  # of the comparison, whatever the time: one cannot be judged by
_TRIAL_USERS, _TRIAL_TOKENS = 12, 48  # of bare batching's settings
_CACHE_TOKENS = 160_000  # of bare batching, and of ours on a CPU
_SHORT_TOKENS, _HISTORY_TOKENS, _FOLLOWUP_TOKENS, _ANSWER_TOKENS = 40, 2048, 30, 16


@dataclass(slots=True)
class Results:
    """``rounds`` of the comparison: the runs of each, in order. NaN and empty: not measured."""

    rounds: list[list[Run]] = field(default_factory=list)
    long_rounds: dict[str, list[list[Run]]] = field(default_factory=dict)
    bar_rounds: list[list[Run]] = field(default_factory=list)
    loops: list[Run] = field(default_factory=list)
    device: Device | None = None
    decode: list[Decode] = field(default_factory=list)
    followups: dict[str, tuple[float, float]] = field(default_factory=dict)  # shape -> ms: a first turn, a follow-up
    demo: Run | None = None
    differing: dict[str, str] = field(default_factory=dict)  # contestant -> answers that are not ours, of how many
    bare_settings: dict[str, float] = field(default_factory=dict)  # tokens a batch -> tokens/s in the trial
    left_out: list[str] = field(default_factory=list)


class Clock:
    def __init__(self, minutes: float) -> None:
        self._began = time.monotonic()
        self._seconds = minutes * 60

    def is_past(self, share: float) -> bool:
        return time.monotonic() - self._began > share * self._seconds


def compare(results: Results, plan: Plan, clock: Clock, until: float, say: Callable[[str], None]) -> None:
    """Ours and the others on one trace, in turn, round after round. Bare batching takes part in the first one only: it
    takes several times as long as all others."""
    shape = SHAPES[plan.shapes[0]]
    asks = traces.chat(plan.asks, shape.config["vocab_size"], _SEED)
    with _ours(shape, plan) as ours, _baselines(shape, plan, asks, results) as others:
        for _ in range(plan.rounds):
            if clock.is_past(until) and len(results.rounds) >= _LEAST_ROUNDS:
                results.left_out.append(f"comparison: {plan.rounds - len(results.rounds)} of {plan.rounds} rounds")
                return
            is_first = not results.rounds
            others_now = [other for other in others if is_first or not isinstance(other, BareBatching)]
            results.rounds.append(_round(ours, others_now, asks, plan, results, say))


def _round(
    ours: Ours, others: list[Contestant], asks: list[Ask], plan: Plan, results: Results, say: Callable[[str], None]
) -> list[Run]:
    load = f"chat, {_COMPARED_USERS} users"
    first, wanted = ours.serve(asks, _COMPARED_USERS, load)
    runs = [_said(first, say)]
    for other in others:
        part = traces.every(asks, _nth(other.name, plan))
        run, answers = other.serve(part, _COMPARED_USERS, load)
        runs.append(_said(run, say))
        known = {ask.prompt: answer for ask, answer in zip(asks, wanted, strict=True)}
        results.differing[other.name] = _differing([known[ask.prompt] for ask in part], answers)
    return runs


def _nth(name: str, plan: Plan) -> int:
    return plan.plain_nth if name == "plain generate" else plan.static_nth if name.startswith("static") else 1


def long_title(requests: int, prompt: int, new: int) -> str:
    return f"{requests} x {prompt + new}, {new} of them answer"


def long_contexts(results: Results, plan: Plan, clock: Clock, until: float, say: Callable[[str], None]) -> None:
    """Against bare batching, whose attention pays for every request's keys in every other's step."""
    shape = SHAPES[plan.shapes[0]]
    for requests, prompt, new in plan.long_contexts:
        title = long_title(requests, prompt, new)
        asks = traces.uniform(requests, prompt, new, shape.config["vocab_size"], _SEED)
        rounds = results.long_rounds[title] = []
        if clock.is_past(until):
            results.left_out.append(title)
            continue
        with _ours(shape, plan) as ours:
            tokens = max(_CACHE_TOKENS, requests * (prompt + new + 64))
            with closing(BareBatching(shape, plan.device, tokens, asks, requests)) as bare:  # a few say nothing
                say(f"{title}: bare batching's trials, tokens/s by tokens a batch: {bare.rates}")
                for contestants in ((ours, bare), (ours,)):
                    if clock.is_past(until):
                        results.left_out.append(f"{title}: a round")
                        break
                    runs = [_said(who.serve(asks, requests, title)[0], say) for who in contestants]
                    rounds.append(runs)


def bar(results: Results, plan: Plan, clock: Clock, until: float, say: Callable[[str], None]) -> None:
    """Plain ``generate`` and ours for the same few people, so that whole answers can be compared in time as well."""
    shape = SHAPES[plan.shapes[0]]
    asks = traces.every(traces.chat(plan.asks, shape.config["vocab_size"], _SEED), max(1, plan.asks // plan.bar_asks))
    load = f"chat, {_BAR_USERS} users"
    with _ours(shape, plan) as ours, closing(Static(shape, plan.device, 1)) as other:
        for _ in range(2):
            if clock.is_past(until):
                results.left_out.append("answers of plain generate: a round")
                return
            results.bar_rounds.append([_said(who.serve(asks, _BAR_USERS, load)[0], say) for who in (ours, other)])


def loops(results: Results, plan: Plan, clock: Clock, until: float, say: Callable[[str], None]) -> None:
    """Ours alone: closed loops by number of users, and open ones at a share of what it takes."""
    shape = SHAPES[plan.shapes[0]]
    vocabulary = shape.config["vocab_size"]
    with _ours(shape, plan) as ours:
        for users in plan.users:
            for mix, make in (("chat", traces.chat), ("bot", traces.bot)):
                if clock.is_past(until):
                    results.left_out.append(f"closed loop, {mix}, {users} users")
                    continue
                count = max(8, min(users * 2, plan.asks)) if users > 1 else 8
                asks = make(max(count, min(users, 256)), vocabulary, _SEED + users)
                run, _ = ours.serve(asks, users, f"{mix}, {users} users")
                results.loops.append(_said(run, say))
        closed = [run for run in results.loops if run.load == f"chat, {min(64, max(plan.users))} users"]
        for share in plan.loads if closed else ():
            rate = share * closed[0].answers / closed[0].seconds
            for name, variation in (("Poisson", 1.0), ("gamma", 2.0)):
                if clock.is_past(until):
                    results.left_out.append(f"open loop, {name}, {share:.0%}")
                    continue
                asks = traces.arriving(traces.chat(plan.open_asks, vocabulary, _SEED), rate, variation, _SEED)
                run, _ = ours.serve(asks, None, f"chat, {name}, {share:.0%} of the closed rate")
                results.loops.append(_said(run, say))


def decoding(results: Results, plan: Plan, clock: Clock, until: float, say: Callable[[str], None]) -> None:
    """Every shape's steps beside the measured roofline; more Llamas and Mistrals than one need no second figure."""
    results.device = roofline.measured(plan.device)
    for name in plan.shapes:
        if clock.is_past(until):
            results.left_out.append(f"decoding, {name}")
            continue
        with _ours(SHAPES[name], plan) as ours:
            for batch, context in plan.decode:
                found = roofline.decode(ours, name, results.device, batch, context)
                results.decode.append(found)
                say(f"{name}, {batch} x {context}: {found.step_ms:.2f} ms a step, {found.share:.0%} of the roofline")


def followups(results: Results, plan: Plan, clock: Clock, until: float, say: Callable[[str], None]) -> None:
    """The first token of a talk's first short turn, and of its next one after a long history; nobody else is served."""
    for name in plan.followups:
        if clock.is_past(until):
            results.left_out.append(f"follow-up turns, {name}")
            continue
        with _ours(SHAPES[name], plan) as ours:
            first_ms, next_ms = results.followups[name] = _turns_ms(ours.fresh(), SHAPES[name].config["vocab_size"])
        say(f"{name}: first token of a first turn {first_ms:.1f} ms, of a follow-up {next_ms:.1f} ms")


def _turns_ms(core: PagedCore, vocabulary: int) -> tuple[float, float]:
    """Medians. One history, which goes on in several ways, each with an answer of its own: no two share more."""
    history = traces.uniform(1, _HISTORY_TOKENS, _ANSWER_TOKENS, vocabulary, 200)[0]
    _first_ms(core, history)
    firsts, nexts = [], []
    for seed in range(11):
        short = traces.uniform(1, _SHORT_TOKENS, _ANSWER_TOKENS, vocabulary, 100 + seed)[0]
        more = traces.uniform(1, _ANSWER_TOKENS + _FOLLOWUP_TOKENS, _ANSWER_TOKENS, vocabulary, 300 + seed)[0]
        firsts.append(_first_ms(core, short))
        nexts.append(_first_ms(core, Ask((*history.prompt, *more.prompt), _ANSWER_TOKENS)))
    return middle(firsts), middle(nexts)


def _first_ms(core: PagedCore, ask: Ask) -> float:
    (answer,), _ = drive(core, [ask], 1, Stopwatch())
    return answer.first_s * 1000


@contextmanager
def _ours(shape: Shape, plan: Plan) -> Iterator[Ours]:
    with closing(Ours(shape, plan.device, plan.limits)) as ours:
        yield ours
    _empty(plan)


@contextmanager
def _baselines(shape: Shape, plan: Plan, asks: list[Ask], results: Results) -> Iterator[list[Contestant]]:
    trial = [replace(ask, new_tokens=min(ask.new_tokens, _TRIAL_TOKENS)) for ask in asks[:_TRIAL_USERS]]
    bare = BareBatching(shape, plan.device, _CACHE_TOKENS, trial, _TRIAL_USERS)
    results.bare_settings = {str(size): rate for size, rate in bare.rates.items()}
    with closing(bare):
        yield [Static(shape, plan.device, size) for size in (1, *plan.static)] + [bare]
    _empty(plan)


def _empty(plan: Plan) -> None:
    gc.collect()
    if plan.device != "cpu":
        torch.cuda.empty_cache()


def _differing(ours: Sequence[Answer], theirs: Sequence[Answer]) -> str:
    differ = sum(mine.tokens != other.tokens for mine, other in zip(ours, theirs, strict=True))
    return f"{differ} of {len(theirs)}"


def _said(run: Run, say: Callable[[str], None]) -> Run:
    rate = f"{run.tokens_per_s:.0f} tokens/s ({run.busy_tokens_per_cpu_s:.0f} a second of CPU while all ask)"
    say(f"{run.contestant}, {run.load}: {rate}, first token {run.first_ms[0]:.0f} ms")
    return run
