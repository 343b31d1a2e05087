"""Keeps calls away from an app that is broken, so that it costs nobody time. Pure; the clock can be given."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

THRESHOLD: Final = 5
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0
PROBE_S: Final = 40.0  # a probe that has not reported by then never will


class Breaker:
    """Opens after ``THRESHOLD`` failures in a row. After a pause one call goes through as a probe: its success closes
    the breaker, its failure doubles the pause. Shared by the threads of a process."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock, self._lock = name, clock, threading.Lock()
        self._failures, self._pause_s, self._next_at = 0, 0.0, 0.0
        self._is_probed = False
        self.reason = ""

    def enter(self) -> float:
        """Return 0 for "go ahead", else the seconds to wait. Who goes ahead calls ``report`` or ``leave``."""
        with self._lock:
            if self._failures < THRESHOLD:
                return 0.0
            wait_s = self._next_at - self._clock()
            if wait_s > 0:
                return wait_s
            self._is_probed, self._next_at = True, self._clock() + PROBE_S
            return 0.0

    def leave(self) -> None:
        """The call was not made after all: the next one may probe."""
        with self._lock:
            if self._is_probed:
                self._is_probed, self._next_at = False, self._clock()

    def report(self, broken: str = "") -> None:
        """How a call ended: ``broken`` says what is wrong with the app, empty when it works."""
        with self._lock:
            if not broken:
                self._failures, self._pause_s, self._is_probed = 0, 0.0, False
            elif self._failures < THRESHOLD - 1:
                self._failures += 1
            elif self._failures < THRESHOLD or self._is_probed:  # calls begun before it opened count once
                self._open(broken)

    def _open(self, broken: str) -> None:
        self._failures, self._is_probed, self.reason = THRESHOLD, False, broken
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or FIRST_PAUSE_S)
        self._next_at = self._clock() + self._pause_s
        logger.warning(
            "an app does not work, its calls are held back",
            extra={"app": self._name, "pause_s": self._pause_s, "reason": broken},
        )


_breakers: dict[str, Breaker] = {}
_guard = threading.Lock()


def breaker_of(name: str) -> Breaker:
    with _guard:
        return _breakers.setdefault(name, Breaker(name))


def forget() -> None:
    """All are closed again, as after a start."""
    with _guard:
        _breakers.clear()
