"""Deltas on their way to browsers and API clients: published from any thread, followed in the site's event loop.

Every piece carries the offset at which it stands in the answer, so that a follower who joins late, or missed one,
knows; the whole text so far lies under one cache key. All of it is a comfort: with Redis lost, followers find the
whole answer in the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.core.cache import cache

from integrations import resting
from integrations.resting import UNREACHABLE, RedisLost
from integrations.web.outbox import LAYER_S, Outbox, group_name, text_key

logger = logging.getLogger(__name__)
Event = dict[str, Any]
_outbox = Outbox()


def publish(message_id: str, text: str, sent: int) -> None:
    """Send what is new of an answer whose whole text so far is ``text``, ``sent`` characters of it already sent."""
    with _outbox.news(message_id) as news:
        news.add(text, sent)


def restart(message_id: str) -> None:
    """Another worker begins the answer anew: what was shown of it no longer counts."""
    with _outbox.news(message_id) as news:
        news.restart()


def settle(message_id: str) -> None:
    """Tell the followers that the message's row in the database now holds the outcome."""
    with _outbox.news(message_id) as news:
        news.is_settled = True


def flush(timeout_s: float) -> bool:
    """Before a process ends: wait until the followers were told what it has published. False when that takes longer."""
    return _outbox.flush(timeout_s)


def so_far(message_id: str) -> str:
    """The answer as far as it is known here; empty while Redis is lost."""
    with suppress(RedisLost), resting.redis.asked():
        return str(cache.get(text_key(message_id)) or "")
    return ""


async def text_so_far(message_id: str) -> str:
    return await sync_to_async(so_far, thread_sensitive=False)(message_id)


class Feed:
    """What a follower receives: nothing when the channel layer is lost, as if nothing were ever sent."""

    def __init__(self, group: str) -> None:
        self._layer, self._group, self._channel = get_channel_layer(), group, ""
        self._receiving: asyncio.Task[Event] | None = None

    async def join(self) -> None:
        with suppress(RedisLost), resting.redis.asked():
            async with asyncio.timeout(LAYER_S):
                self._channel = await self._layer.new_channel()
                await self._layer.group_add(self._group, self._channel)

    async def next(self, timeout_s: float) -> Event | None:
        """The next event, or None when none came in time: look at the database then."""
        # Kept from call to call: to cancel it makes the Redis layer leave the channel, and lose what comes meanwhile.
        self._receiving = self._receiving or asyncio.create_task(self._receive())
        done, _ = await asyncio.wait({self._receiving}, timeout=timeout_s)
        if not done:
            return None
        event, self._receiving = self._receiving.result(), None
        return event

    async def leave(self) -> None:
        if self._receiving:
            self._receiving.cancel()
        with suppress(*UNREACHABLE):  # a lost Redis forgets by itself who had joined
            async with asyncio.timeout(LAYER_S):
                if self._channel:
                    await self._layer.group_discard(self._group, self._channel)

    async def _receive(self) -> Event:
        try:
            if self._channel:
                return dict(await self._layer.receive(self._channel))
        except UNREACHABLE:
            logger.warning("live updates of an answer ended early", exc_info=True)
        silence: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        return await silence


@asynccontextmanager
async def follow(message_id: str) -> AsyncIterator[Feed]:
    """Join before reading ``so_far`` and the database: nothing falls between."""
    feed = Feed(group_name(message_id))
    try:
        await feed.join()
        yield feed
    finally:
        await feed.leave()
