"""How often a platform may be called: token buckets, shared by all processes through Redis.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm). Without Redis, or
while it is lost, each process keeps its own. Knows no platform: their limits stand in each one's ``limits.py``.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol, TypeVar

import redis
from django.conf import settings
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_WAIT_S: Final = 3.0  # a worker that sleeps longer than this helps nobody
REDIS_TIMEOUT_S: Final = 1.0
REDIS_REST_S: Final = 5.0  # a lost Redis is not asked again for so long
MOST_BUCKETS: Final = 10_000
_PREFIX = "clawdbot:pace:"
_ROUNDING_S = 1e-6

# Both run on Redis's clock, the only one that all hosts share. KEYS: buckets; ARGV: interval and burst of each.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local wait, fulls = 0, {}
for i, key in ipairs(KEYS) do
    local interval, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    fulls[i] = math.max(tonumber(redis.call('GET', key) or 0), now) + interval
    wait = math.max(wait, fulls[i] - interval * burst - now)
end
if wait <= 1e-6 then
    for i, key in ipairs(KEYS) do
        redis.call('SET', key, string.format('%.6f', fulls[i]), 'PX', math.ceil((fulls[i] - now) * 1000) + 1000)
    end
end
return string.format('%.6f', wait)
"""
_HOLD = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now + tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.6f', full), 'PX', math.ceil((full - now) * 1000) + 1000)
return 1
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """``burst`` calls at once, then one more every ``interval_s``."""

    burst: int
    interval_s: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one limit holds for: ``scope`` says which kind of limit it is, ``key`` whose."""

    scope: str
    key: str
    limit: Limit

    @property
    def emptied_s(self) -> float:
        """How far ahead of now an empty bucket is full again, less the pause until its next call."""
        return (self.limit.burst - 1) * self.limit.interval_s


class Buckets(Protocol):
    def take(self, buckets: Sequence[Bucket]) -> float:
        """Take one token from each, or none at all; returns 0, or the seconds until it is worth asking again."""

    def hold(self, bucket: Bucket, wait_s: float) -> None:
        """Empty a bucket: no call for ``wait_s``."""


class LocalBuckets:
    """The buckets of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._fulls: dict[str, float] = {}

    def take(self, buckets: Sequence[Bucket]) -> float:
        with self._lock:
            now = self._clock()
            fulls = {b.key: max(self._fulls.get(b.key, 0.0), now) + b.limit.interval_s for b in buckets}
            wait_s = max((fulls[b.key] - b.limit.interval_s * b.limit.burst - now for b in buckets), default=0.0)
            if wait_s > _ROUNDING_S:
                return wait_s
            self._fulls.update(fulls)
            self._forget(now)
        return 0.0

    def hold(self, bucket: Bucket, wait_s: float) -> None:
        with self._lock:
            full = self._clock() + wait_s + bucket.emptied_s
            self._fulls[bucket.key] = max(self._fulls.get(bucket.key, 0.0), full)

    def _forget(self, now: float) -> None:
        """A full bucket is as good as none."""
        if len(self._fulls) > MOST_BUCKETS:
            self._fulls = {key: full for key, full in self._fulls.items() if full > now}


class RedisBuckets:
    """The buckets of all processes. One round trip a call; raises RedisError and OSError."""

    def __init__(self, url: str) -> None:
        client = redis.Redis.from_url(
            url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S, decode_responses=True
        )
        self._take, self._hold = client.register_script(_TAKE), client.register_script(_HOLD)

    def take(self, buckets: Sequence[Bucket]) -> float:
        limits = [value for b in buckets for value in (b.limit.interval_s, b.limit.burst)]
        wait_s = float(str(self._take(keys=[_PREFIX + b.key for b in buckets], args=limits)))
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def hold(self, bucket: Bucket, wait_s: float) -> None:
        self._hold(keys=[_PREFIX + bucket.key], args=[wait_s + bucket.emptied_s])


class SafeBuckets:
    """Redis's buckets; this process's own while Redis is lost, so that no delivery stops for want of it."""

    def __init__(self, shared: Buckets, own: Buckets) -> None:
        self._shared, self._own = shared, own
        self._rests_until = 0.0

    def take(self, buckets: Sequence[Bucket]) -> float:
        return self._ask(lambda store: store.take(buckets))

    def hold(self, bucket: Bucket, wait_s: float) -> None:
        self._own.hold(bucket, wait_s)  # remembered here too, should Redis be lost or emptied meanwhile
        self._ask(lambda store: store.hold(bucket, wait_s))

    def _ask(self, work: Callable[[Buckets], T]) -> T:
        if time.monotonic() >= self._rests_until:
            try:
                return work(self._shared)
            except (RedisError, OSError):
                self._rests_until = time.monotonic() + REDIS_REST_S
                logger.warning("redis unreachable, the pace of platform calls is kept per process")
        return work(self._own)


@cache
def buckets() -> Buckets:
    """The buckets that this process's calls take from."""
    own = LocalBuckets()
    return SafeBuckets(RedisBuckets(settings.REDIS_URL), own) if settings.REDIS_URL else own


def wait_for(wanted: Sequence[Bucket], longest_wait_s: float) -> float:
    """Take a token from each bucket, sleeping if need be. Returns 0 when taken, else the seconds that are missing."""
    deadline = time.monotonic() + longest_wait_s
    while (wait_s := buckets().take(wanted)) > 0:
        if time.monotonic() + wait_s > deadline:
            return wait_s
        time.sleep(wait_s * random.uniform(1.0, 1.1))  # noqa: S311  (jitter: not all at once for one token)
    return 0.0
