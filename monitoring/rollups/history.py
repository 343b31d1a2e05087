"""The last hours, minute by minute, added up over all processes: what rules and charts ask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from monitoring.models import Rollup
from monitoring.rollups import tidying

KEPT: Final = timedelta(hours=6, minutes=10)  # the longest window of a rule, and some
LATE: Final = timedelta(minutes=4)  # so long a minute may still grow
MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Total:
    """One minute of all processes."""

    sums: Mapping[str, float]
    levels: Mapping[str, list[float]]


class History:
    """Read again with ``refresh``: only the minutes that may have changed."""

    def __init__(self, kept: timedelta = KEPT) -> None:
        self._kept = kept
        self.now = datetime.min.replace(tzinfo=UTC)
        self.minutes: dict[datetime, Total] = {}

    def refresh(self, now: datetime) -> None:
        """Raises DatabaseError."""
        self.now = now
        newest = max(self.minutes, default=now - self._kept)
        since = max(newest - LATE, now - self._kept)
        rows: dict[datetime, list[Rollup]] = {}
        for row in Rollup.objects.filter(minute__gte=since).order_by():
            rows.setdefault(row.minute, []).append(row)
        kept = {minute: total for minute, total in self.minutes.items() if now - self._kept < minute < since}
        self.minutes = kept | {minute: _total(parts) for minute, parts in rows.items()}

    def window(self, minutes: int, ago: int = 0) -> list[Total]:
        """The totals of so many minutes up to the one that runs, or up to ``ago`` minutes before it; known ones."""
        last = self.now.replace(second=0, microsecond=0) - ago * MINUTE
        times = (last - number * MINUTE for number in range(minutes))
        return [self.minutes[time] for time in times if time in self.minutes]

    def sum(self, name: str, minutes: int, ago: int = 0) -> float:
        """Of all keys that are ``name`` or begin with it and a bar."""
        return sum(
            value
            for total in self.window(minutes, ago)
            for key, value in total.sums.items()
            if key == name or key.startswith(f"{name}|")
        )

    def seconds(self, minutes: int) -> float:
        """How long the window of so many minutes is: the one that runs has only begun."""
        return max(1.0, (minutes - 1) * 60 + self.now.second)

    def labels(self, name: str, minutes: int) -> list[str]:
        """What follows ``name`` in the keys of sums, up to the next bar, sorted."""
        keys = (key for total in self.window(minutes) for key in total.sums)
        return sorted({key.removeprefix(f"{name}|").partition("|")[0] for key in keys if key.startswith(f"{name}|")})

    def quantile(self, name: str, share: float, minutes: int, ago: int = 0) -> float | None:
        """As Prometheus' histogram_quantile; None where nothing was observed."""
        buckets: dict[float, float] = {}
        for total in self.window(minutes, ago):
            for key, value in total.sums.items():
                if key.startswith(f"{name}|le="):
                    bound = float(key.rpartition("le=")[2].replace("+Inf", "inf"))
                    buckets[bound] = buckets.get(bound, 0.0) + value
        return quantile(buckets, share)

    def level(self, name: str, minutes: int = 2, ago: int = 0) -> dict[str, float]:
        """The mean of each level ``name|rest`` over the window, by rest."""
        found = tidying.joined(
            {key.removeprefix(f"{name}|"): value for key, value in total.levels.items() if key.startswith(f"{name}|")}
            for total in self.window(minutes, ago)
        )
        return {rest: total / looks for rest, (total, looks, _most) in found.items() if looks}


def _total(rows: list[Rollup]) -> Total:
    return Total(tidying.added(row.sums for row in rows), tidying.joined(row.levels for row in rows))


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """``buckets``: upper bound -> how many were not above it."""
    count = buckets.get(math.inf, 0.0)
    if count <= 0:
        return None
    wanted, low, below = share * count, 0.0, 0.0
    for bound, up_to in sorted(buckets.items()):
        if up_to >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / (up_to - below) if up_to > below else bound
        low, below = bound, up_to
    return low
