"""Counters that all processes share, in Django's cache; while it cannot be reached each process counts for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
T = TypeVar("T")

REST_S: Final = 2.0  # a server that hangs is not waited for again and again

own_store = LocMemCache("sign-in", {"OPTIONS": {"MAX_ENTRIES": 10_000}})
_lost_until_s = 0.0


def in_store(work: Callable[[BaseCache], T]) -> T:
    """With Redis lost people can still sign in, and guessing stays limited."""
    global _lost_until_s
    if time.monotonic() >= _lost_until_s:
        try:
            return work(caches["default"])
        except (RedisError, OSError):
            _lost_until_s = time.monotonic() + REST_S
            logger.warning("cache unreachable, attempts are counted per process")
    return work(own_store)
