"""Flood control for entries that a stranger can cause: the first at once, then one a minute with a count.

Counts live in this process. Nothing here writes; monitoring.audit does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Window:
    opened_at: float
    suppressed: int
    memo: Any


class FloodControl:
    """Thread-safe. Above ``most_keys`` keys, new ones share one window, so that memory and rows stay bounded."""

    def __init__(self, period_s: float = 60.0, most_keys: int = 10_000, clock: Callable[[], float] = time.monotonic):
        self.period_s = period_s
        self.most_keys = most_keys
        self._clock = clock
        self._lock = threading.Lock()
        self._swept_at = float("-inf")
        self._windows: dict[Hashable, _Window] = {}

    def due(self, key: Hashable, memo: Any = None) -> int:
        """Count one event: return how many an entry must tell of now, 0 while the key's minute runs.

        ``memo`` is kept with the suppressed events and comes back from ``overdue``.
        """
        now = self._clock()
        with self._lock:
            if key not in self._windows and len(self._windows) >= self.most_keys:
                self._forget_idle(now)
                key = key if len(self._windows) < self.most_keys else "others"
            window = self._windows.get(key)
            if window is None or now - window.opened_at >= self.period_s:
                self._windows[key] = _Window(now, 0, memo)
                return 1 + (window.suppressed if window else 0)
            window.suppressed += 1
            window.memo = memo
            return 0

    def overdue(self, *, everything: bool = False) -> list[tuple[Any, int]]:
        """Take the suppressed counts whose minute is over (or all of them): ``(memo, count)`` each.

        Looks once a second at most, so it may be called on every event.
        """
        now = self._clock()
        with self._lock:
            if not everything and now - self._swept_at < 1.0:
                return []
            self._swept_at = now
            self._forget_idle(now)
            waiting = [w for w in self._windows.values() if w.suppressed and (everything or self._is_over(w, now))]
            taken = [(window.memo, window.suppressed) for window in waiting]
            for window in waiting:
                window.opened_at, window.suppressed = now, 0
        return taken

    def clear(self) -> None:
        with self._lock:
            self._windows.clear()
            self._swept_at = float("-inf")

    def _is_over(self, window: _Window, now: float) -> bool:
        return now - window.opened_at >= self.period_s

    def _forget_idle(self, now: float) -> None:
        idle = [key for key, window in self._windows.items() if self._is_over(window, now) and not window.suppressed]
        for key in idle:
            del self._windows[key]
