"""A fake gateway of Feishu's long connection on real sockets: strict about tickets; sends again what nobody took.

Runs in the loop of the test. Speaks frames by our own codec, which test_frames.py holds against the official one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from integrations.feishu import frames
from integrations.feishu.frames import Frame

Json = dict[str, Any]
SERVICE_ID = 33554678


@dataclass(frozen=True)
class Refusal:
    """What the endpoint answers instead of a place."""

    code: int
    msg: str = "no"
    status: int = 200


@dataclass
class Gateway:
    """``acks`` are the answers that came, ``pings`` the times of pings, ``waiting`` the events nobody acknowledged."""

    config: Json = field(default_factory=dict)
    news: Json | None = None  # the ClientConfig that pongs carry
    app_id: str = "cli_1"
    app_secret: str = "secret-of-the-app"
    answers_pings: bool = True
    address: str = ""  # what the endpoint names instead of this gateway's own address
    answers_after_s: float = 0.0
    refusals: deque[Refusal] = field(default_factory=deque)
    handshakes: deque[Json] = field(default_factory=deque)
    asked: int = 0
    tickets: list[str] = field(default_factory=list)
    lines: list[ServerConnection] = field(default_factory=list)
    opened: int = 0
    pings: list[float] = field(default_factory=list)
    ping_frames: list[Frame] = field(default_factory=list)
    acks: list[Frame] = field(default_factory=list)
    waiting: dict[str, list[Frame]] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    repeated: int = 0
    _unused: set[str] = field(default_factory=set)
    _answering: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def __aenter__(self) -> Self:
        self._sockets: Server = await serve(self._line, "127.0.0.1", 0, process_request=self._door, close_timeout=0.2)
        self._endpoint = await asyncio.start_server(self._asked, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for answering in self._answering:
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        self._endpoint.close()
        await self._endpoint.wait_closed()
        self._sockets.close()
        await self._sockets.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._endpoint.sockets[0].getsockname()[1]}"

    # -- what a test does

    async def send(self, event: Json, *, parts: int = 1, order: list[int] | None = None) -> str:
        """Deliver an event until it is acknowledged; returns the frame's message id."""
        name = f"frame-{next(self._numbers)}"
        whole = _frames(name, json.dumps(event, ensure_ascii=False).encode(), parts)
        self.waiting[name] = [whole[at] for at in order or range(parts)]
        if self.lines:
            await self._send(self.lines[-1], self.waiting[name])
        return name

    async def send_raw(self, data: bytes | str) -> None:
        await self.lines[-1].send(data)

    def cut(self) -> None:
        """Without a goodbye, as a broken network."""
        for line in self.lines:
            line.transport.abort()

    async def close(self) -> None:
        for line in list(self.lines):
            await line.close(1001)

    def codes(self) -> list[int]:
        return [json.loads(ack.payload or b"{}")["code"] for ack in self.acks]

    # -- the endpoint

    def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.lower().split("\r\n")
            size = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            body = json.loads(await reader.readexactly(size))
            self.asked += 1
            await asyncio.sleep(self.answers_after_s)
            status, answer = self._place(head.split()[:2], body)
            raw = json.dumps(answer).encode()
            writer.write(
                f"HTTP/1.1 {status} x\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode() + raw
            )
        finally:
            writer.close()

    def _place(self, call: list[str], body: Json) -> tuple[int, Json]:
        assert call == ["POST", "/callback/ws/endpoint"]
        if self.refusals:
            refusal = self.refusals.popleft()
            return refusal.status, {"code": refusal.code, "msg": refusal.msg}
        if body != {"AppID": self.app_id, "AppSecret": self.app_secret}:
            return 200, {"code": 514, "msg": "auth failed"}
        ticket = f"ticket-{next(self._numbers)}"
        self._unused.add(ticket)
        port = next(iter(self._sockets.sockets)).getsockname()[1]
        query = f"device_id=73{self.asked}&service_id={SERVICE_ID}&ticket={ticket}"
        url = f"{self.address or f'ws://127.0.0.1:{port}'}/ws/v2?{query}"
        return 200, {"code": 0, "msg": "ok", "data": {"URL": url, "ClientConfig": self.config}}

    # -- the sockets

    def _door(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.handshakes:
            return _closed_door(self.handshakes.popleft())
        ticket = parse_qs(urlsplit(request.path).query)["ticket"][0]
        if ticket not in self._unused:
            return _closed_door({"handshake-status": "514", "handshake-msg": "ticket used"})
        self._unused.remove(ticket)
        self.tickets.append(ticket)
        return None

    async def _line(self, line: ServerConnection) -> None:
        self.lines.append(line)
        self.opened += 1
        try:
            for waiting in list(self.waiting.values()):
                self.repeated += 1
                await self._send(line, waiting)
            async for data in line:
                assert isinstance(data, bytes)
                await self._hear(line, frames.decode(data))
        except ConnectionClosed:
            pass  # cut by the test
        finally:
            self.lines.remove(line)

    async def _hear(self, line: ServerConnection, frame: Frame) -> None:
        if frame.method == frames.DATA:
            self._acknowledged(frame)
            return
        assert frame.header("type") == "ping"
        self.ping_frames.append(frame)
        self.pings.append(time.monotonic())
        if self.answers_pings:
            news = json.dumps(self.news).encode() if self.news is not None else None
            await line.send(frames.encode(Frame(0, 0, SERVICE_ID, frames.CONTROL, (("type", "pong"),), payload=news)))

    def _acknowledged(self, frame: Frame) -> None:
        self.acks.append(frame)
        if self.codes()[-1] == HTTPStatus.OK:
            name = frame.header("message_id")
            self.waiting.pop(name, None)
            self.taken.append(name)

    async def _send(self, line: ServerConnection, parts: list[Frame]) -> None:
        with suppress(ConnectionClosed):
            for frame in parts:
                await line.send(frames.encode(frame))


def _frames(name: str, payload: bytes, count: int) -> list[Frame]:
    """The payload in ``count`` frames, cut anywhere, also inside a character."""
    size = -(-len(payload) // count)
    return [
        Frame(
            seq_id=1790000000001 + seq,
            log_id=7400000000000000001,
            service=SERVICE_ID,
            method=frames.DATA,
            headers=(
                ("type", "event"),
                ("message_id", name),
                ("sum", str(count)),
                ("seq", str(seq)),
                ("trace_id", "t"),
            ),
            payload=payload[seq * size : (seq + 1) * size],
        )
        for seq in range(count)
    ]


def _closed_door(headers: Json) -> Response:
    return Response(403, "Forbidden", Headers({**headers, "Content-Length": "0", "Connection": "close"}), b"")
