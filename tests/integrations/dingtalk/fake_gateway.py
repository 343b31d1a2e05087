"""A fake of DingTalk's Stream gateway on real sockets: one-use tickets, frames, and every way a line can end.

async with FakeGateway() as gateway:
    await gateway.until(lambda: gateway.live)
    frame_id = await gateway.push(message("Hello", "m1"))
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

BOT = "/v1.0/im/bot/messages/get"
Json = dict[str, Any]


def message(text: str, message_id: str, **more: Any) -> Json:
    """A person's direct message, as the robot's topic carries it."""
    return {
        "msgtype": "text",
        "text": {"content": text},
        "msgId": message_id,
        "conversationType": "1",
        "conversationId": "cidDirect==",
        "senderStaffId": "staff0001",
        "senderNick": "张三",
        "createAt": 1760000000123,
        **more,
    }


@dataclass(eq=False)
class Line:
    """One socket, as the gateway sees it."""

    socket: ServerConnection
    is_leaving: bool = False
    is_deaf: bool = False  # the gateway forgot it, and did not say so
    frames: set[str] = field(default_factory=set)  # sent on this socket
    companions: int = 0  # lines that were open when this one was opened

    async def send(self, text: str) -> None:
        with suppress(ConnectionClosed):
            await self.socket.send(text)

    async def disconnect(self, reason: str = "connection is expired") -> None:
        self.is_leaving = True
        await self.send(frame("SYSTEM", "disconnect", {"reason": reason}, ""))

    def cut(self) -> None:
        self.socket.transport.abort()

    def cut_in_a_frame(self) -> None:
        """The head of a text frame of 300 bytes, and three of them."""
        self.socket.transport.write(b'\x81\x7e\x01\x2c{"t')
        self.socket.transport.close()


class FakeGateway:
    app_id, app_secret = "dingapp", "secret-of-the-app"

    def __init__(self) -> None:
        self.faults: deque[tuple[int, Any]] = deque()  # answers to the next calls that open
        self.asked: list[Json] = []
        self.asked_at: list[float] = []
        self.lines: list[Line] = []  # every one there ever was
        self.acks: dict[str, Json] = {}
        self.oddities: list[str] = []
        self._tickets: set[str] = set()
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        self._api = await asyncio.start_server(self._called, "127.0.0.1", 0)
        self._gateway = await serve(
            self._connected, "127.0.0.1", 0, process_request=self._admit, ping_interval=None, close_timeout=0.1
        )
        self.api_url = f"http://127.0.0.1:{self._api.sockets[0].getsockname()[1]}"
        self.endpoint = f"ws://127.0.0.1:{next(iter(self._gateway.sockets)).getsockname()[1]}/connect"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._api.close()
        self._gateway.close()
        await self._gateway.wait_closed()

    @property
    def live(self) -> list[Line]:
        """Those that a push may go to."""
        return [line for line in self.open if not line.is_leaving]

    @property
    def open(self) -> list[Line]:
        return [line for line in self.lines if line.socket.state.name == "OPEN"]

    async def until(self, check: Callable[[], object], limit_s: float = 5.0) -> None:
        end = time.monotonic() + limit_s
        while not check():
            assert time.monotonic() < end, "the gateway waits in vain"
            await asyncio.sleep(0.005)

    async def push(self, data: Json, topic: str = BOT, kind: str = "CALLBACK", line: Line | None = None) -> str:
        """Deliver to the newest live line; returns the frame's id."""
        line, frame_id = line or self.live[-1], f"frame-{next(self._numbers)}"
        line.frames.add(frame_id)
        await line.send(frame(kind, topic, data, frame_id))
        return frame_id

    async def push_event(self, event: str, data: Json, company: str) -> str:
        frame_id = f"frame-{next(self._numbers)}"
        self.live[-1].frames.add(frame_id)
        made = json.loads(frame("EVENT", "*", data, frame_id))
        made["headers"] |= {"eventType": event, "eventCorpId": company, "eventId": "event-1"}
        await self.live[-1].send(json.dumps(made))
        return frame_id

    async def acked(self, frame_id: str) -> Json:
        await self.until(lambda: frame_id in self.acks)
        return self.acks[frame_id]

    # -- the two servers ----------------------------------------------------------------------------------------

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        status, answer = self._open(head, body)
        content = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(content)
        writer.close()

    def _open(self, head: str, body: Json) -> tuple[int, Any]:
        self.asked.append(body)
        self.asked_at.append(time.monotonic())
        if not head.startswith("post /v1.0/gateway/connections/open ") or "accept: application/json" not in head:
            self.oddities.append(head)
        if self.faults:
            return self.faults.popleft()
        if (body["clientId"], body["clientSecret"]) != (self.app_id, self.app_secret):
            return 400, {"code": "authFailed", "message": "clientId or clientSecret is wrong"}
        ticket = f"{secrets.token_hex(4)}/+{secrets.token_hex(4)}=="
        self._tickets.add(ticket)
        return 200, {"endpoint": self.endpoint, "ticket": ticket}

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        ticket = parse_qs(urlsplit(request.path).query).get("ticket", [""])[0]
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            return None
        self.oddities.append("a ticket that is not good")
        return connection.respond(401, "wrong ticket")

    async def _connected(self, socket: ServerConnection) -> None:
        line = Line(socket, companions=len(self.open))
        self.lines.append(line)
        with suppress(ConnectionClosed):
            async for text in socket:
                self._answered(line, json.loads(text))

    def _answered(self, line: Line, ack: Json) -> None:
        frame_id = ack["headers"]["messageId"]
        if line.is_deaf:
            return
        if frame_id not in line.frames:
            self.oddities.append("acknowledged on another line")
        self.acks[frame_id] = ack


def frame(kind: str, topic: str, data: Any, frame_id: str) -> str:
    headers = {"topic": topic, "contentType": "application/json", "time": "1760000000200"}
    if frame_id:
        headers["messageId"] = frame_id
    return json.dumps({"specVersion": "1.0", "type": kind, "headers": headers, "data": json.dumps(data)})
