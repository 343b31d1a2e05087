"""Access tokens of the platforms, shared by all processes through the cache and fetched by one at a time.

The cache is Redis in production, this process's memory in the embedded mode. Entries are encrypted: a cache dump must
not be a key to the platforms.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import DecryptionError
from integrations import resting
from integrations.resting import RedisLost

T = TypeVar("T")
LOCK_S = 15  # longer than any token call may take
_AAD = b"integrations.tokens"
_own_store = LocMemCache("tokens", {})
_local: dict[str, threading.Lock] = {}
_guard = threading.Lock()


class CachedTokens:
    """The token store that the adapters are given."""

    def get(self, key: str) -> str | None:
        sealed = _in_store(lambda store: store.get(_name(key)))
        if sealed is None:
            return None
        try:
            return key_ring.unseal(sealed, _AAD)
        except DecryptionError:
            return None  # sealed by a key that is gone: fetch a new token

    def set(self, key: str, value: str, ttl_s: float) -> None:
        sealed = key_ring.seal(value, _AAD)
        _in_store(lambda store: store.set(_name(key), sealed, max(1, int(ttl_s))))

    def delete(self, key: str) -> None:
        _in_store(lambda store: store.delete(_name(key)))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by one thread of one process. A holder that died lets go after LOCK_S."""
        with _thread_lock(key):
            name, deadline = f"{_name(key)}:lock", time.monotonic() + LOCK_S
            while not (is_mine := _in_store(lambda store: store.add(name, 1, LOCK_S))) and time.monotonic() < deadline:
                time.sleep(0.05)
            try:
                yield
            finally:
                if is_mine:
                    _in_store(lambda store: store.delete(name))


def _in_store(work: Callable[[BaseCache], T]) -> T:
    """With Redis lost, each process fetches for itself: a send must not fail for want of a shared token."""
    try:
        with resting.redis.asked():
            return work(caches["default"])
    except RedisLost:
        return work(_own_store)


def _name(key: str) -> str:
    return f"token:{key}"


def _thread_lock(key: str) -> threading.Lock:
    with _guard:
        return _local.setdefault(key, threading.Lock())
