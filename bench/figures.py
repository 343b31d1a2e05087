"""Percentiles, medians of rounds, and the schedule of an open loop. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all values do not exceed. NaN of nothing."""
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def middle(values: Sequence[float]) -> float:
    """The median. NaN of nothing, so that what was not measured never looks like a figure."""
    return median(values) if values else math.nan


def due_times(rate: float, seconds: float) -> Iterator[float]:
    """When each request of an open loop is due, in seconds from its start: evenly spaced, whatever the answers do."""
    return (number / rate for number in range(int(rate * seconds)))
