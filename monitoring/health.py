"""Is this process fit for work? Probes of what it needs; the apps above register theirs.

A probe returns nothing or a short text when all is well, and raises when it is not. Its error text is never shown,
for connection errors hold addresses and passwords; but for Unfit, whose text is the probe's own words.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import redis
from django.conf import settings
from django.db import connection

logger = logging.getLogger(__name__)

Probe = Callable[[], str | None]
FRESH_S: Final = 1.0  # /readyz is public: asking it often must not load the database
TIMEOUT_S: Final = 1.0


class Unfit(Exception):
    """Not well. The text may be shown to who may read /metrics."""


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    is_ok: bool
    is_critical: bool
    detail: str
    duration_ms: int


_probes: dict[str, tuple[Probe, bool]] = {}
_lock = threading.Lock()
_last: tuple[float, list[Result]] = (float("-inf"), [])


def register(name: str, callback: Probe, critical: bool = True) -> None:
    """Add a probe, or replace it. A failing critical one makes /readyz answer 503. It must end within a second."""
    _probes[name] = (callback, critical)


def check() -> list[Result]:
    """Run all probes now."""
    return [_run(name, probe, critical) for name, (probe, critical) in list(_probes.items())]


def recent() -> list[Result]:
    """Results at most a second old. While one thread asks, the others take what is known."""
    global _last
    asked_at, results = _last
    if time.monotonic() - asked_at < FRESH_S or (results and not _lock.acquire(blocking=False)):
        return results
    if not results:
        _lock.acquire()
    try:
        _last = (time.monotonic(), check())
        return _last[1]
    finally:
        _lock.release()


def is_ready(results: list[Result]) -> bool:
    return all(result.is_ok for result in results if result.is_critical)


def database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return connection.vendor


def broker() -> str:
    """The Redis of ``settings.REDIS_URL``; without one the broker is in this process."""
    url = getattr(settings, "REDIS_URL", "")
    if not url:
        return "embedded"
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
        client.ping()
    return "redis"


def _run(name: str, probe: Probe, critical: bool) -> Result:
    started = time.perf_counter()
    try:
        detail, is_ok = probe() or "", True
    except Unfit as error:
        detail, is_ok = str(error), False
    except Exception as error:  # noqa: BLE001  (whatever is wrong, the others are still to be asked)
        detail, is_ok = type(error).__name__, False
        logger.warning("probe failed", extra={"probe": name, "error": detail})
    return Result(name, is_ok, critical, detail, round((time.perf_counter() - started) * 1000))


register("database", database, critical=True)
# Not critical: without the broker callbacks are still stored and answered, only later.
register("broker", broker, critical=False)
