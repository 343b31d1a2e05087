"""How far other clocks are ahead of this machine's, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from monitoring import health


def database_skew_s() -> float | None:
    """None for SQLite, which has no clock of its own. Raises DatabaseError."""
    return _skew_s(_ask_database) if connection.vendor == "postgresql" else None


def redis_skew_s() -> float | None:
    """None in the embedded mode, and while Redis cannot be reached."""
    if not settings.REDIS_URL:
        return None
    timeout_s = health.TIMEOUT_S
    url = settings.REDIS_URL
    try:
        with redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
            client.ping()  # the connection is made before the clock is read
            return _skew_s(lambda: _ask_redis(client))
    except (redis.RedisError, OSError):
        return None


def _skew_s(ask: Callable[[], datetime]) -> float:
    before = timezone.now()
    theirs = ask()
    return (theirs - before - (timezone.now() - before) / 2).total_seconds()


def _ask_database() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
        return theirs


def _ask_redis(client: redis.Redis) -> datetime:
    seconds, microseconds = client.time()
    return datetime.fromtimestamp(seconds + microseconds / 1e6, timezone.get_default_timezone())
