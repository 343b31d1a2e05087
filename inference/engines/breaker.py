"""Keeps requests away from a service that is down. Pure; the clock can be given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after ``threshold`` failures in a row; then lets one probe through every ``open_s`` until one succeeds."""

    def __init__(self, threshold: int = 5, open_s: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold = threshold
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_probe_at = 0.0
        self.reason = ""  # of the last failure, for admins

    @property
    def is_open(self) -> bool:
        return self._failures >= self._threshold

    def wait_s(self) -> float:
        """Return 0 for "go ahead", else the seconds to the next probe. Going ahead while half-open takes the probe."""
        with self._lock:
            if self._failures < self._threshold:
                return 0.0
            wait_s = self._next_probe_at - self._clock()
            if wait_s > 0:
                return wait_s
            self._next_probe_at = self._clock() + self._open_s  # not given back: a probe may never report
            return 0.0

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self, reason: str = "") -> None:
        with self._lock:
            self._failures += 1
            self._note(reason)

    def trip(self, reason: str) -> None:
        """Open now: somebody else (the health check) knows that the service is down."""
        with self._lock:
            self._failures = max(self._failures, self._threshold)
            self._note(reason)

    def _note(self, reason: str) -> None:
        self.reason = reason or self.reason
        self._next_probe_at = self._clock() + self._open_s
