"""Access tokens of the platforms, shared by all processes through the cache and fetched by one at a time.

The cache is Redis in production, this process's memory in the embedded mode. Entries are encrypted: a cache dump must
not be a key to the platforms.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import cache

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import DecryptionError

LOCK_S = 15  # longer than any token call may take
_AAD = b"integrations.tokens"
_local: dict[str, threading.Lock] = {}
_guard = threading.Lock()


class CachedTokens:
    """The token store that the adapters are given."""

    def get(self, key: str) -> str | None:
        sealed = cache.get(_name(key))
        if sealed is None:
            return None
        try:
            return key_ring.unseal(sealed, _AAD)
        except DecryptionError:
            return None  # sealed by a key that is gone: fetch a new token

    def set(self, key: str, value: str, ttl_s: float) -> None:
        cache.set(_name(key), key_ring.seal(value, _AAD), max(1, int(ttl_s)))

    def delete(self, key: str) -> None:
        cache.delete(_name(key))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by one thread of one process. A holder that died lets go after LOCK_S."""
        with _thread_lock(key):
            name, deadline = f"{_name(key)}:lock", time.monotonic() + LOCK_S
            while not cache.add(name, 1, LOCK_S) and time.monotonic() < deadline:
                time.sleep(0.05)
            try:
                yield
            finally:
                cache.delete(name)


def _name(key: str) -> str:
    return f"token:{key}"


def _thread_lock(key: str) -> threading.Lock:
    with _guard:
        return _local.setdefault(key, threading.Lock())
