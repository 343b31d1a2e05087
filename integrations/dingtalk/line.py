"""One open socket of DingTalk's Stream: takes frames, and acknowledges each on the socket it came by.

Knows neither how sockets are opened nor what happens when this one ends (stream.py).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Literal

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from integrations.dingtalk import frames
from integrations.dingtalk.events import parse_card_action, parse_event, parse_message
from integrations.dingtalk.frames import BOT_TOPIC, CARD_TOPIC, Frame
from integrations.dingtalk.opening import check_addressee, check_company
from integrations.dingtalk.payload import Json, strict_object
from integrations.errors import AuthenticationError, NotTaken, PayloadError
from integrations.listening import Deliver, Report
from integrations.values import Credentials, Inbound

logger = logging.getLogger(__name__)
MOST_AT_ONCE = 100  # what comes beyond waits in the socket
DRAIN_S = 2.0
End = Literal["polite", "silent", "cut"]


class Line:
    """Read by one task (``run``). ``ending`` is set when it needs a successor; ``end`` says why."""

    def __init__(
        self, socket: ClientConnection, credentials: Credentials, deliver: Deliver, report: Report, silence_s: float
    ) -> None:
        self.ending, self.end, self.has_heard = asyncio.Event(), "cut", False
        self._socket, self._credentials, self._silence_s = socket, credentials, silence_s
        self._deliver, self._report = deliver, report
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the socket closes. Cancelled when a successor is there; then lets what is under way be acknowledged."""
        try:
            while True:
                await self._read()
        except ConnectionClosed:
            self._end_by("cut")
        finally:
            await self._close()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                text = await self._socket.recv()
        except TimeoutError:
            self._end_by("silent")  # pongs prove nothing: DingTalk may have forgotten this socket
            return
        self.has_heard = True
        self._report("connected", heard=True)
        frame = frames.read(text)
        if frame is None:
            logger.warning("DingTalk sent something that is no frame")
        else:
            await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        match frame.kind, frame.topic:
            case "SYSTEM", "ping":
                await self._socket.send(frames.acknowledge(frame))
            case "SYSTEM", "disconnect":
                self._end_by("polite")
            case "CALLBACK" | "EVENT", _:
                await self._room.acquire()
                task = asyncio.create_task(self._answer(frame))
                self._under_way.add(task)
                task.add_done_callback(self._answered)
            case _:
                pass  # kinds that are only told: CONNECTED, REGISTERED, KEEPALIVE

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()):
            logger.error("a frame of DingTalk's Stream was not handled", exc_info=error)

    async def _answer(self, frame: Frame) -> None:
        try:
            answer = await self._outcome(frame)
        except NotTaken as problem:
            logger.warning("a frame was not taken; DingTalk sends it again", extra={"reason": str(problem)})
            if frame.kind != "EVENT":
                return
            answer = frames.acknowledge(frame, data={"status": "LATER"})
        except (PayloadError, AuthenticationError) as problem:
            logger.warning("a frame of DingTalk's Stream is unusable", extra={"reason": str(problem)})
            answer = frames.acknowledge(frame, frames.BAD)
        if frame.id:
            with suppress(ConnectionClosed):  # it is stored: when DingTalk sends it again, it is known as a repeat
                await self._socket.send(answer)

    async def _outcome(self, frame: Frame) -> str:
        """The acknowledgement; an event is durable before it is made."""
        match frame.kind, frame.topic:
            case "CALLBACK", topic if topic == BOT_TOPIC:
                await self._deliver(self._message(frame))
                return frames.acknowledge(frame, data={"response": None})
            case "CALLBACK", topic if topic == CARD_TOPIC:
                shown = await self._deliver(self._card_action(frame))
                return frames.acknowledge(frame, data={"response": dict(shown or {})})
            case "EVENT", _:
                await self._deliver(self._event(frame))
                return frames.acknowledge(frame, data={"status": "SUCCESS", "message": "taken"})
            case _:
                return frames.acknowledge(frame, frames.UNKNOWN)

    def _message(self, frame: Frame) -> Inbound:
        payload = _object(frame)
        check_addressee(payload, self._credentials)
        return parse_message(payload, self._credentials)

    def _card_action(self, frame: Frame) -> Inbound:
        payload = _object(frame)
        check_company(payload.get("corpId"), self._credentials)
        return parse_card_action(payload)

    def _event(self, frame: Frame) -> Inbound:
        check_company(frame.company, self._credentials)
        return parse_event(frame.event, _object(frame), frame.event_id)

    def _end_by(self, end: End) -> None:
        if not self.ending.is_set():
            self.end = end
            self.ending.set()

    async def _close(self) -> None:
        self.ending.set()
        try:
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=DRAIN_S)
        finally:  # also when told twice to end
            for task in list(self._under_way):
                task.cancel()
            await self._socket.close()


def _object(frame: Frame) -> Json:
    return strict_object(frame.data.encode("utf-8", "replace"))
