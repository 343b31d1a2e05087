"""From samples to figures and verdicts: medians of rounds, ratios inside a round. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.figures import middle
from bench.sampling import COMPARED, Sample


def of(samples: Sequence[Sample], subject: str, connections: int = COMPARED, *, is_open: bool = False) -> list[Sample]:
    return [
        sample
        for sample in samples
        if sample.subject == subject and (sample.asked is not None) == is_open
        if is_open or sample.connections == connections  # an open loop has no level
    ]


def rate_of(samples: Sequence[Sample], subject: str, connections: int = COMPARED) -> float:
    return middle([sample.rate for sample in of(samples, subject, connections)])


def ratio(samples: Sequence[Sample], ours: str, theirs: str) -> float:
    """The median over rounds of our rate as a share of theirs in the same round: both saw the same machine."""
    other = {sample.round: sample.rate for sample in of(samples, theirs)}
    return middle([sample.rate / other[sample.round] for sample in of(samples, ours) if other.get(sample.round)])
