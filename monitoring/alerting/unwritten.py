"""Alerts that the database could not take yet, shown meanwhile to who can still see the admin: left in the cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from django.core.cache import cache
from redis.exceptions import RedisError

from monitoring.alerting.wording import News

logger = logging.getLogger(__name__)

KEY: Final = "monitoring.unwritten-alerts"
KEPT_S: Final = 60


def leave(news: Iterable[News]) -> None:
    found = [{"severity": one.severity, "summary": one.summary, "opened_at": one.opened_at} for one in news]
    with suppress(RedisError, OSError):
        cache.set(KEY, found, KEPT_S)


def take_away() -> None:
    with suppress(RedisError, OSError):
        cache.delete(KEY)


def found() -> list[dict[str, Any]]:
    try:
        return list(cache.get(KEY) or [])
    except (RedisError, OSError):
        logger.info("the cache cannot be asked for alerts")
        return []
