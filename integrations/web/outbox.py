"""News of answers on their way to followers: gathered from any thread, sent by one thread a process.

Nobody who writes an answer waits for Redis. Of each answer only what is new is kept, joined into one piece: a slow or
lost Redis costs followers pieces, never memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from channels.layers import get_channel_layer
from django.core.cache import cache

from integrations import resting
from integrations.resting import RedisLost

logger = logging.getLogger(__name__)
KEEP_S: Final = 3600
LAYER_S: Final = 2.0  # the channel layer's own patience is 5 s, and one call waits for the other
MOST_ANSWERS: Final = 1000  # with more waiting, the others' followers look at the database


def group_name(message_id: str) -> str:
    return f"answer.{message_id}"


def text_key(message_id: str) -> str:
    """Where the cache has the whole text so far."""
    return f"answer:{message_id}"


@dataclass(slots=True)
class News:
    """What the followers of one answer have not been told yet."""

    is_restarted: bool = False
    is_settled: bool = False
    text: str = ""
    sent: int = 0

    def add(self, text: str, sent: int) -> None:
        """``text`` is the whole answer so far; a piece that still waits becomes part of this one."""
        self.text, self.sent = text, self.sent if self.text else sent

    def restart(self) -> None:
        self.is_restarted, self.text, self.sent = True, "", 0

    def events(self) -> Iterator[dict[str, Any]]:
        if self.is_restarted:
            yield {"type": "restart"}
        if self.text:
            yield {"type": "delta", "offset": self.sent, "text": self.text[self.sent :]}
        if self.is_settled:
            yield {"type": "settled"}


class Outbox:
    """One daemon thread with one event loop a process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, News] = {}
        self._is_sending = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def news(self, message_id: str) -> Iterator[News]:
        """Change, in this block, what the followers of an answer will be told."""
        with self._changed:
            self._start_once()
            has_room = message_id in self._waiting or len(self._waiting) < MOST_ANSWERS
            yield self._waiting.setdefault(message_id, News()) if has_room else News()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything so far was sent or given up. False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._is_sending, timeout_s)

    def _start_once(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="live-outbox", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            while True:
                message_id, news = self._next()
                try:
                    self._send(runner, message_id, news)
                except RedisLost:
                    continue  # told by ``resting``; followers find the whole answer in the database
                except asyncio.CancelledError:
                    continue  # the loop in which they followed has ended, and took what was on its way with it
                except Exception:  # one answer's news must not end everybody's
                    logger.exception("a live update could not be sent")

    def _next(self) -> tuple[str, News]:
        with self._changed:
            self._is_sending = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting)
            self._is_sending = True
            message_id = next(iter(self._waiting))
            return message_id, self._waiting.pop(message_id)

    def _send(self, runner: asyncio.Runner, message_id: str, news: News) -> None:
        with resting.redis.asked():
            _keep(text_key(message_id), news)  # first: who joins after the piece was sent reads it there
            runner.run(_tell(group_name(message_id), news))


def _keep(key: str, news: News) -> None:
    if news.text:
        cache.set(key, news.text, KEEP_S)
    elif news.is_restarted:
        cache.delete(key)


async def _tell(group: str, news: News) -> None:
    layer = get_channel_layer()
    async with asyncio.timeout(LAYER_S):
        for event in news.events():
            await layer.group_send(group, event)
