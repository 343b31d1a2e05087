"""Leaving a lost Redis alone for a moment, so that a hanging one is waited for once and not at every call.

Knows nothing of what is asked: callers say what they do without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
REST_S: Final = 5.0
UNREACHABLE: Final = (RedisError, OSError)


class RedisLost(Exception):
    """Redis cannot be reached, or could not a moment ago. Trying again helps after REST_S at the earliest."""


class Resting:
    """What one process knows of whether a server answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_again_at: float | None = None  # None: it answers

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Ask Redis in this block. Raises RedisLost: at once while it rests, else when the block cannot reach it."""
        if not self._may_ask():
            raise RedisLost
        try:
            yield
        except UNREACHABLE as error:
            logger.warning("redis cannot be reached, it is left alone for a moment", extra={"error": repr(error)})
            self._asked_again_at = time.monotonic() + REST_S
            raise RedisLost from error
        self._asked_again_at = None

    def _may_ask(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if self._asked_again_at is None:
                return True
            if now < self._asked_again_at:
                return False
            self._asked_again_at = now + REST_S  # one caller tries, the others go on without
            return True


redis = Resting()
