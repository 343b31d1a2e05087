"""Deltas on their way to browsers and API clients: published from any thread, followed in the site's event loop.

Every piece carries the offset at which it stands in the answer, so that a follower who joins late, or missed one,
knows; the whole text so far lies under one cache key.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
KEEP_S = 3600


def group_name(message_id: str) -> str:
    return f"answer.{message_id}"


def publish(message_id: str, text: str, sent: int) -> None:
    """Send what is new of an answer whose whole text so far is ``text``, ``sent`` characters of it already sent."""
    with _cache_may_be_down():
        cache.set(_key(message_id), text, KEEP_S)
    _outbox.put((group_name(message_id), {"type": "delta", "offset": sent, "text": text[sent:]}))


def restart(message_id: str) -> None:
    """Another worker begins the answer anew: what was shown of it no longer counts."""
    with _cache_may_be_down():
        cache.delete(_key(message_id))
    _outbox.put((group_name(message_id), {"type": "restart"}))


def settle(message_id: str) -> None:
    """Tell the followers that the message's row in the database now holds the outcome."""
    _outbox.put((group_name(message_id), {"type": "settled"}))


def so_far(message_id: str) -> str:
    with _cache_may_be_down():
        return str(cache.get(_key(message_id)) or "")
    return ""


@contextmanager
def _cache_may_be_down() -> Iterator[None]:
    """Live updates are a comfort: without them followers find the whole answer in the database."""
    try:
        yield
    except RedisError:
        logger.warning("the cache cannot be reached; live updates are incomplete")


def _key(message_id: str) -> str:
    return f"answer:{message_id}"


class Feed:
    """What a follower receives."""

    def __init__(self, layer: Any, channel: str) -> None:
        self._layer, self._channel = layer, channel

    async def next(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event, or None when none came in time: look at the database then."""
        try:
            async with asyncio.timeout(timeout_s):
                return dict(await self._layer.receive(self._channel))
        except TimeoutError:
            return None


@asynccontextmanager
async def follow(message_id: str) -> AsyncIterator[Feed]:
    """Join before reading ``so_far`` and the database: nothing falls between."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(message_id), channel)
    try:
        yield Feed(layer, channel)
    finally:
        await layer.group_discard(group_name(message_id), channel)


async def text_so_far(message_id: str) -> str:
    return await sync_to_async(so_far, thread_sensitive=False)(message_id)


class _Outbox:
    """One daemon thread with one event loop a process: worker threads never wait for the channel layer."""

    def __init__(self) -> None:
        self._start = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    def put(self, item: tuple[str, dict[str, Any]]) -> None:
        self._running().call_soon_threadsafe(self._waiting.put_nowait, item)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._start:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name="live-outbox", daemon=True).start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._send_all())

    async def _send_all(self) -> None:
        layer = get_channel_layer()
        while True:
            group, event = await self._waiting.get()
            try:
                await layer.group_send(group, event)
            except Exception:  # followers look at the database every few seconds: nothing is lost
                logger.warning("a live update could not be sent", exc_info=True)


_outbox = _Outbox()
