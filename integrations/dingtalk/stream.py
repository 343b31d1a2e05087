"""DingTalk's Stream mode: one app's long connection. Opens sockets, replaces them, comes back after trouble.

Source: PROTOCOL.md, "Stream: life of a connection".
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx
from channels.db import DatabaseSyncToAsync
from websockets.asyncio.client import ClientConnection

from integrations.dingtalk.gateway import open_gateway
from integrations.dingtalk.line import Line
from integrations.errors import PlatformError
from integrations.listening import Deliver, LongConnection, Pauses, Report
from integrations.sockets import dial
from integrations.values import Credentials


@dataclass(frozen=True, slots=True)
class Timing:
    """``silence_s``: DingTalk is heard every 20 to 30 s on a live connection, and three misses are no accident."""

    silence_s: float = 90.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0
    refused_pause_s: float = 60.0  # nothing but an admin's work helps, and who asks on is throttled
    short_life_s: float = 1.0  # a connection that ended sooner is followed by a pause, however politely it ended


class DingTalkStream(LongConnection):
    def __init__(self, credentials: Credentials, http: httpx.Client, timing: Timing | None = None) -> None:
        self._credentials, self._http, self._timing = credentials, http, timing or Timing()
        self._pauses = Pauses(self._timing.first_pause_s, self._timing.longest_pause_s)

    async def run(self, deliver: Deliver, report: Report) -> None:
        """The successor is open before a line is let go, so that DingTalk always has one to deliver to."""
        async with asyncio.TaskGroup() as readers:
            former: asyncio.Task[None] | None = None
            while True:
                line = await self._line(deliver, report)
                opened_at_s = time.monotonic()
                reader = readers.create_task(line.run())
                if former:
                    former.cancel()
                report("connected")
                await line.ending.wait()
                former = None if line.end == "cut" else reader
                await self._pause_after(line, time.monotonic() - opened_at_s, report)

    async def _line(self, deliver: Deliver, report: Report) -> Line:
        while True:
            report("connecting")
            try:
                socket = await self._socket()
            except PlatformError as problem:
                await self._pause_for(problem, report)
            else:
                return Line(socket, self._credentials, deliver, report, self._timing.silence_s)

    async def _socket(self) -> ClientConnection:
        """With a new ticket each time: it is good for one connection."""
        url = await DatabaseSyncToAsync(open_gateway, thread_sensitive=False)(self._credentials, self._http)
        return await dial(url, may_be_plain=self._credentials.api_url.startswith("http://"))

    async def _pause_for(self, problem: PlatformError, report: Report) -> None:
        report("refused" if problem.permanent else "waiting", str(problem))
        least_s = self._timing.refused_pause_s if problem.permanent else problem.retry_after_s or 0.0
        await asyncio.sleep(max(least_s, self._pauses.next_s()))

    async def _pause_after(self, line: Line, lived_s: float, report: Report) -> None:
        """None after an orderly end."""
        if line.has_heard:
            self._pauses.reset()
        if line.end == "cut" or lived_s < self._timing.short_life_s:
            report("waiting", "The connection was closed; it is opened again.")
            await asyncio.sleep(self._pauses.next_s())
