"""Somebody who listens on Feishu's long connection, and what comes by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from integrations.feishu.pace import Pace
from integrations.listening import LongConnection
from integrations.values import IncomingMessage

QUICK = Pace(ping_s=5.0, interval_s=0.02, nonce_s=0.02, least_s=0.005, margin_s=1.0, recheck_s=0.05)
Json = dict[str, Any]


@dataclass
class Listener:
    """What ClawdBot takes, as a supervisor would. Clear ``stored``, and events wait to be."""

    taken: list[IncomingMessage] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    heard: int = 0
    answer: Mapping[str, Any] | None = None
    troubles: list[Exception] = field(default_factory=list)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.stored.set()

    async def deliver(self, event: object) -> Mapping[str, Any] | None:
        if self.troubles:
            raise self.troubles.pop()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.stored.wait()
        finally:
            self.at_once -= 1
        if isinstance(event, IncomingMessage):
            self.taken.append(event)
        return self.answer

    def report(self, state: str, detail: str = "", *, heard: bool = False) -> None:
        self.heard += heard
        if not self.states or self.states[-1] != (state, detail):
            self.states.append((state, detail))

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.taken]


def event(number: int = 1, text: str = "你好 👍") -> Json:
    """A direct message as it comes by this way: in clear, with an empty token."""
    return {
        "schema": "2.0",
        "header": {"event_id": f"e{number}", "token": "", "event_type": "im.message.receive_v1", "app_id": "cli_1"},
        "event": {
            "sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"},
            "message": {
                "message_id": f"om_{number}",
                "chat_id": "oc_1",
                "chat_type": "p2p",
                "message_type": "text",
                "create_time": "1790000000123",
                "content": json.dumps({"text": text}, ensure_ascii=False),
            },
        },
    }


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def held(stream: LongConnection, listener: Listener) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(stream.run(listener.deliver, listener.report))
    try:
        yield task
        assert not task.done() or task.cancelled(), "it gave up"
    finally:
        task.cancel()
        await asyncio.wait([task])
