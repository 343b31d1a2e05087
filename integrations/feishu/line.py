"""One open socket of Feishu's long connection: pings, takes frames, acknowledges what is stored.

Knows neither how sockets are opened nor what follows when this one ends (stream.py).
Source: PROTOCOL.md, "Life of a connection".
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from integrations.errors import NotTaken, PayloadError
from integrations.feishu import events, frames
from integrations.feishu.frames import Frame
from integrations.feishu.opening import json_object
from integrations.feishu.pace import Pace
from integrations.feishu.parts import Parts
from integrations.listening import Deliver, Report
from integrations.values import Credentials

logger = logging.getLogger(__name__)
MOST_AT_ONCE = 64  # one batch of the intake; what comes beyond waits in the socket
DRAIN_S, CLOSE_S = 0.4, 0.6
LOOK_S = 1.0
TAKEN, NOT_TAKEN = 200, 500


class Line:
    """Read by one task (``run``). ``pace`` is what Feishu last asked for."""

    def __init__(
        self,
        socket: ClientConnection,
        service_id: int,
        credentials: Credentials,
        deliver: Deliver,
        report: Report,
        pace: Pace,
    ) -> None:
        self.pace = pace
        self._socket, self._service_id, self._credentials = socket, service_id, credentials
        self._deliver, self._report = deliver, report
        self._parts = Parts()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> str:
        """Until the socket ends; returns why, in words. Cancelled, it lets what is under way be acknowledged."""
        pinging = asyncio.create_task(self._keep_pinging())
        try:
            while True:
                await self._read()
        except ConnectionClosed:
            return "The connection was closed; it is opened again."
        except TimeoutError:
            return f"Nothing was heard for {self.pace.silence_s:.0f} s; the connection is opened again."
        finally:
            pinging.cancel()
            await self._close()

    async def _read(self) -> None:
        async with asyncio.timeout(self.pace.silence_s):
            data = await self._socket.recv(decode=False)
        self._report("connected", heard=True)
        try:
            await self._take(frames.decode(data))
        except PayloadError as problem:  # no connection should end for one frame
            logger.warning("a frame of Feishu's long connection is unusable", extra={"reason": str(problem)})

    async def _take(self, frame: Frame) -> None:
        match frame.method, frame.header("type"):
            case frames.CONTROL, "pong" if frame.payload:
                self.pace = self.pace.adopt(json_object(frame.payload))
            case frames.DATA, "event":
                payload = self._parts.add(frame, time.monotonic())
                if payload is not None:
                    await self._begin(frame, payload)
            case _:
                pass  # a pong without news, and kinds that no official client answers: old card callbacks

    async def _begin(self, frame: Frame, payload: bytes) -> None:
        await self._room.acquire()
        task = asyncio.create_task(self._answer(frame, payload))
        self._under_way.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()):
            logger.error("an event of Feishu's long connection was not handled", exc_info=error)

    async def _answer(self, frame: Frame, payload: bytes) -> None:
        began_at_s = time.monotonic()
        answer = json.dumps(await self._outcome(payload)).encode()
        took_ms = round((time.monotonic() - began_at_s) * 1000)
        headers = (*frame.headers, ("biz_rt", str(took_ms)))
        with suppress(ConnectionClosed):  # it is stored: when Feishu sends it again, it is known as a repeat
            await self._socket.send(frames.encode(replace(frame, headers=headers, payload=answer)))

    async def _outcome(self, payload: bytes) -> Mapping[str, Any]:
        """What to answer; the event is durable before it is "taken". Otherwise Feishu sends it again."""
        try:
            shown = await self._deliver(events.parse(json_object(payload), self._credentials))
        except (NotTaken, PayloadError) as problem:
            logger.warning("an event was not taken; Feishu sends it again", extra={"reason": str(problem)})
            return {"code": NOT_TAKEN}
        if not shown:
            return {"code": TAKEN}
        return {"code": TAKEN, "data": base64.b64encode(json.dumps(dict(shown)).encode()).decode()}

    async def _keep_pinging(self) -> None:
        """The first ping at once. Looks every second whether a pong changed the pace."""
        ping = frames.encode(Frame(0, 0, self._service_id, frames.CONTROL, (("type", "ping"),)))
        with suppress(ConnectionClosed):  # the reader sees it, too
            while True:
                await self._socket.send(ping)
                sent_at_s = time.monotonic()
                while (left_s := sent_at_s + self.pace.ping_s - time.monotonic()) > 0:
                    await asyncio.sleep(min(left_s, LOOK_S))

    async def _close(self) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    if self._under_way:
                        await asyncio.wait(self._under_way, timeout=DRAIN_S)
                    await self._socket.close()
        finally:  # also on a dead path, and when told twice to end
            for task in self._under_way:
                task.cancel()
            self._socket.transport.abort()
