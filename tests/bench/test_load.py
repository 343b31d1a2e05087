"""The load generator against small sites in this process whose behaviour is known."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from bench import run as run_module
from bench.callbacks import callbacks
from bench.measured import Door, Job
from bench.run import Run
from bench.wire import REPLY, size_of
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.dingtalk.crypto import verify_callback
from integrations.values import Credentials, IncomingMessage, WebhookRequest

DOOR = Door(0, "/webhooks/dingtalk/key/", "bench", "a-secret")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


class Slow:
    """Answers after a while, counting how many it has at once."""

    def __init__(self, wait_s: float, answer: bytes = OK, told: Callable[[str], None] = lambda uid: None) -> None:
        self.wait_s, self.answer, self.told = wait_s, answer, told
        self.now = self.most = self.taken = 0
        self.serving: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        while head := await self._head(reader):
            body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
            self.now, self.taken = self.now + 1, self.taken + 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(self.wait_s)
            self.now -= 1
            writer.write(self.answer)
            self.told(json.loads(body)["msgId"].removeprefix("msg-"))
        writer.close()
        await writer.wait_closed()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""


@asynccontextmanager
async def serving(slow: Slow) -> AsyncIterator[Door]:
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    async with server:
        yield DOOR.at(server.sockets[0].getsockname()[1])
        await asyncio.gather(*filter(None, slow.serving))


async def test_a_closed_loop_has_as_many_requests_under_way_as_connections() -> None:
    slow = Slow(0.05)
    async with serving(slow) as door:
        job = Job(door, connections=4, seconds=0.5, most=500)
        found = await Run(job, callbacks(job, 1)).measure()

    assert slow.most == 4
    assert 4 * 3 <= found.finished <= 4 * 10
    assert found.p50_ms >= 50


async def test_a_run_ends_when_its_messages_are_used_up() -> None:
    async with serving(Slow(0.0, CHUNKED)) as door:
        job = Job(door, connections=2, seconds=30, most=40)
        found = await asyncio.wait_for(Run(job, callbacks(job, 1)).measure(), 10)

    assert (found.sent, found.finished, found.errors, found.lost) == (40, 40, 0, 0)
    assert found.seconds < 5


async def test_an_open_loop_counts_the_time_that_a_request_waited_for_its_turn() -> None:
    """One connection, 40 ms each: with one every 10 ms the last of ten is due at 90 ms and cannot end before 400."""
    async with serving(Slow(0.04)) as door:
        job = Job(door, connections=1, seconds=1.0, most=6, rate=5.0)
        steady = await Run(job, callbacks(job, 1)).measure()
        job = Job(door, connections=1, seconds=0.1, most=11, rate=100.0)
        late = await Run(job, callbacks(job, 1)).measure()

    assert (steady.sent, late.sent) == (5, 10)
    assert 40 <= steady.p50_ms < 200  # none waits for another
    assert late.p99_ms >= 310


async def test_an_open_loop_that_is_late_itself_counts_from_when_requests_were_due() -> None:
    """The first answer stalls this whole process for 0.3 s, in which all others become due."""
    stalls = [0.3]
    async with serving(Slow(0.0, OK, lambda uid: time.sleep(stalls.pop() if stalls else 0))) as door:
        job = Job(door, connections=20, seconds=0.2, most=21, rate=100.0)
        found = await Run(job, callbacks(job, 1)).measure()

    assert found.p50_ms >= 150


async def test_refusals_are_counted_and_are_no_success() -> None:
    async with serving(Slow(0.01, REFUSED)) as door:
        job = Job(door, connections=2, seconds=0.2, most=10)
        found = await Run(job, callbacks(job, 1)).measure()

    assert (found.finished, found.errors) == (0, 10)


async def test_end_to_end_a_person_waits_for_the_reply() -> None:
    """The site accepts at once, the reply arrives 50 ms later."""
    loop = asyncio.get_running_loop()
    runs: list[Run] = []
    slow = Slow(0.0, OK, lambda uid: loop.call_later(0.05, lambda: runs[0].on_reply(uid, loop.time())))
    async with serving(slow) as door:
        job = Job(door, connections=3, seconds=0.5, most=500, waits_for_reply=True)
        runs.append(Run(job, callbacks(job, 1)))
        found = await runs[0].measure()

    assert found.p50_ms >= 50
    assert 3 * 3 <= found.finished <= 3 * 10
    assert slow.taken == found.sent


async def test_a_reply_that_never_comes_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PATIENCE_S", 0.2)
    async with serving(Slow(0.0)) as door:
        job = Job(door, connections=2, seconds=0.1, most=10, waits_for_reply=True)
        found = await Run(job, callbacks(job, 1)).measure()

    assert (found.sent, found.finished, found.lost) == (2, 0, 2)


def test_callbacks_are_authentic_messages_of_many_people_each_once() -> None:
    job = Job(DOOR, 1, 1.0, most=6, people=3, first_person=100)
    received = []
    for callback in callbacks(job, 9):
        head, _, body = callback.request.partition(b"\r\n\r\n")
        pairs = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        received.append(WebhookRequest(dict(pairs), body, float(json.loads(body)["createAt"]) / 1000))
    credentials = Credentials(
        id="1",
        platform="dingtalk",
        app_id="bench",
        api_url="http://127.0.0.1:9",
        oapi_url="http://127.0.0.1:9",
        app_secret="a-secret",
        corp_id="dingbench",
    )
    adapter = DingTalkAdapter(httpx.Client(), None)
    messages = [adapter.receive(request, credentials) for request in received]

    assert all(isinstance(message, IncomingMessage) for message in messages)
    verify_callback(received[0].headers, "a-secret", int(received[0].received_at_s * 1000))
    assert len({message.message_id for message in messages}) == 6
    assert [message.sender_id for message in messages] == [f"person{n}" for n in (100, 101, 102)] * 2
    assert messages[0].target.webhook_url.startswith("http://127.0.0.1:9/robot/sendBySession?session=")


@pytest.mark.parametrize(
    "whole", [OK, CHUNKED, REFUSED, REPLY, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"]
)
def test_a_message_is_whole_with_its_last_byte_and_not_before(whole: bytes) -> None:
    sizes = [size_of(whole[:end]) for end in range(len(whole))]

    assert sizes == [None] * len(whole)
    assert size_of(whole + b"HTTP") == len(whole)
