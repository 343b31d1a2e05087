"""Redis servers that are no help: one that takes connections and never answers, one that is not there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from django.test import override_settings

from integrations import resting
from integrations.web import live


@contextmanager
def production_shape(url: str) -> Iterator[None]:
    """Cache and channel layer as with ``REDIS_URL``."""
    patience = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    redis_cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url, "OPTIONS": patience}
    layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [url]}}
    assert live.flush(10)
    before, resting.redis = resting.redis, resting.Resting()
    try:
        with override_settings(CACHES={"default": redis_cache}, CHANNEL_LAYERS={"default": layer}):
            yield
            assert live.flush(10)  # else what is under way to this Redis would put the next one to rest
    finally:
        resting.redis = before


@contextmanager
def lost_redis(kind: str) -> Iterator[None]:
    """The production shape on a server that is ``hanging`` or ``gone``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if kind == "gone":
            listener.close()
        with production_shape(f"redis://127.0.0.1:{port}/0"):
            yield
