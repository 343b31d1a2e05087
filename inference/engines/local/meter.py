"""What the engine measures of itself while it works. Cheap to note, read by any thread."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from inference.base import Spread

_KEPT = 512
_RATE_S = 10.0


class Meter:
    """The last values of one kind, in seconds; told in milliseconds."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=_KEPT)

    def note(self, seconds: float) -> None:
        self._values.append(seconds)

    def spread(self) -> Spread:
        values = sorted(self._values.copy())
        if not values:
            return Spread()
        p50, p95, p99 = (values[min(len(values) - 1, int(len(values) * share))] * 1000 for share in (0.5, 0.95, 0.99))
        return Spread(p50, p95, p99)


class Rate:
    """How many a second, over the last ten."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque(maxlen=int(_RATE_S) + 1)  # (second, how many)

    def note(self, count: int) -> None:
        second = int(time.monotonic())
        if self._counts and self._counts[-1][0] == second:
            count += self._counts.pop()[1]
        self._counts.append((second, count))

    def per_s(self) -> float:
        now = time.monotonic()
        recent = [count for second, count in self._counts.copy() if now - second <= _RATE_S]
        return sum(recent) / _RATE_S


@dataclass(frozen=True, slots=True)
class Meters:
    """Those of one engine. ``host`` is a step's work besides the model's."""

    first_token: Meter = field(default_factory=Meter)
    between_tokens: Meter = field(default_factory=Meter)
    host: Meter = field(default_factory=Meter)
    tokens: Rate = field(default_factory=Rate)
