"""The targets, and whether a run reached them: computed from its samples, never written by hand. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench import end_to_end, ingress
from bench.figures import middle
from bench.growth import Cost
from bench.results import of, ratio
from bench.sampling import Sample


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure beside its target. NaN: it was not measured, which is no success."""

    what: str
    target: str
    figure: float
    unit: str
    is_reached: bool

    @property
    def word(self) -> str:
        return "not measured" if math.isnan(self.figure) else "reached" if self.is_reached else "missed"


def at_least(what: str, figure: float, limit: float, unit: str) -> Verdict:
    return Verdict(what, f"at least {limit:g}{unit}", figure, unit, figure >= limit)


def at_most(what: str, figure: float, limit: float, unit: str) -> Verdict:
    return Verdict(what, f"at most {limit:g}{unit}", figure, unit, figure <= limit)


def below(what: str, figure: float, limit: float, unit: str) -> Verdict:
    return Verdict(what, f"below {limit:g}{unit}", figure, unit, figure < limit)


def of_ingress(samples: Sequence[Sample]) -> list[Verdict]:
    half = middle([sample.p99_ms for sample in of(samples, ingress.DAPHNE, is_open=True)])
    return [
        at_least("ingress, of the bare ASGI hello", ratio(samples, ingress.DAPHNE, ingress.HELLO), 0.25, " times"),
        at_least("ingress, of the plain Django view", ratio(samples, ingress.DAPHNE, ingress.PLAIN), 4, " times"),
        below("ingress, p99 at half of that load", half, 50, " ms"),
        _trouble("ingress", samples, (ingress.DAPHNE, ingress.EMBEDDED, ingress.UVICORN)),
    ]


def of_end_to_end(samples: Sequence[Sample]) -> list[Verdict]:
    whole = of(samples, end_to_end.WHOLE)
    half = middle([sample.p99_ms / 1000 for sample in of(samples, end_to_end.WHOLE, is_open=True)])
    cpu_ms = middle([sample.cpu_ms for sample in whole])
    share = ratio(samples, end_to_end.WHOLE, end_to_end.BARE)
    return [
        at_least("end to end, of the bare Celery task", share, 0.4, " times"),
        below("end to end, p99 at half of that load", half, 1, " s"),
        at_most("CPU of our processes, a message", cpu_ms, 15, " ms"),
        _trouble("end to end", samples, (end_to_end.WHOLE, end_to_end.EMBEDDED)),
    ]


def of_growth(costs: Sequence[Cost]) -> list[Verdict]:
    few, many = costs[0], costs[-1]
    span = f"from {few.conversations:,} to {many.conversations:,} conversations"
    return [
        at_most(f"blocks a message, {span}, change", _change(few.blocks, many.blocks), 10, " %"),
        at_most(f"time a message (p50), {span}, change", _growth(few.sample.p50_ms, many.sample.p50_ms), 25, " %"),
    ]


def _trouble(what: str, samples: Sequence[Sample], ours: Sequence[str]) -> Verdict:
    found = [sample.errors + sample.lost for sample in samples if sample.subject in ours]
    return at_most(f"{what}, messages refused or lost", float(sum(found)) if found else math.nan, 0, "")


def _growth(few: float, many: float) -> float:
    """In percent; less than before is no growth but a negative one."""
    return round((many / few - 1) * 100, 6) if few else math.nan


def _change(few: float, many: float) -> float:
    return abs(_growth(few, many))
