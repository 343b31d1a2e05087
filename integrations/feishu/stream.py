"""Feishu's long connection of one app: asks where to connect, holds a line, comes back after trouble.

Source: PROTOCOL.md, "Connecting" and "Life of a connection".
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
from channels.db import DatabaseSyncToAsync
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from integrations.errors import PlatformError
from integrations.feishu import gateway
from integrations.feishu.gateway import Place
from integrations.feishu.line import Line
from integrations.feishu.pace import Pace
from integrations.listening import Deliver, LongConnection, Report
from integrations.sockets import dial
from integrations.values import Credentials

# Threads of their own: a platform that hangs must not take those in which messages are stored.
_ASKING: Final = ThreadPoolExecutor(4, thread_name_prefix="feishu-endpoint")


class FeishuStream(LongConnection):
    """The pace given counts until Feishu sends its own."""

    def __init__(self, credentials: Credentials, http: httpx.Client, pace: Pace | None = None) -> None:
        self._credentials, self._http, self._pace = credentials, http, pace or Pace()

    async def run(self, deliver: Deliver, report: Report) -> None:
        failures = 0
        while True:
            report("connecting")
            try:
                line = await self._line(deliver, report)
            except PlatformError as problem:
                failures += 1
                await self._pause_for(problem, failures, report)
            else:
                failures = 0
                await self._hold(line, report)

    async def _line(self, deliver: Deliver, report: Report) -> Line:
        """At a fresh place each time: an address is good for one connection. Raises PlatformError."""
        place: Place = await DatabaseSyncToAsync(gateway.ask, thread_sensitive=False, executor=_ASKING)(
            self._http, self._credentials
        )
        self._pace = self._pace.adopt(place.config)
        socket = await self._socket(place)
        return Line(socket, place.service_id, self._credentials, deliver, report, self._pace)

    async def _socket(self, place: Place) -> ClientConnection:
        """Events come unsigned and TLS is what proves them: without it only where the base address has none either."""
        try:
            return await dial(place.url, may_be_plain=self._credentials.api_url.startswith("http://"))
        except PlatformError as problem:
            if isinstance(cause := problem.__cause__, InvalidStatus):
                raise gateway.not_opened(cause.response.status_code, cause.response.headers) from problem
            raise

    async def _hold(self, line: Line, report: Report) -> None:
        report("connected")
        reason = await line.run()
        self._pace = line.pace
        report("waiting", reason)
        await asyncio.sleep(self._pace.pause_s(0))

    async def _pause_for(self, problem: PlatformError, failures: int, report: Report) -> None:
        report("refused" if problem.permanent else "waiting", str(problem))
        await asyncio.sleep(self._pace.recheck_s if problem.permanent else self._pace.pause_s(failures))
