"""Feishu's long connection against a fake gateway on real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations.errors import NotTaken
from integrations.feishu import frames, line
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.frames import Frame
from integrations.feishu.pace import Pace
from integrations.feishu.stream import FeishuStream
from integrations.listening import LongConnection
from integrations.values import Credentials, IncomingMessage

from .conftest import credentials
from .doubles import MemoryTokens
from .fake_gateway import SERVICE_ID, Gateway, Refusal

QUICK = Pace(ping_s=5.0, interval_s=0.02, nonce_s=0.02, least_s=0.005, margin_s=1.0, recheck_s=0.05)
Json = dict[str, Any]


@dataclass
class Listener:
    """What ClawdBot takes, as a supervisor would. ``hold`` keeps an event from being stored."""

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


def sockets() -> int:
    """How many this process has open, the fake's included."""
    files = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(str(entry.readlink()).startswith("socket:") for entry in files)


@asynccontextmanager
async def held(stream: LongConnection, listener: Listener) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(stream.run(listener.deliver, listener.report))
    try:
        yield task
        assert not task.done() or task.cancelled(), "it gave up"
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture(autouse=True)
def allowed(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    settings.OUTBOUND_TRUSTED_ORIGINS = []
    settings.OUTBOUND_PROXY = ""


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as fake:
        yield fake


@pytest.fixture
def listener() -> Listener:
    return Listener()


def app_of(gateway: Gateway, **fields: Any) -> Credentials:
    given = {"app_id": gateway.app_id, "app_secret": gateway.app_secret, "api_url": gateway.url}
    return credentials(**{**given, **fields})


@pytest.fixture
def stream(gateway: Gateway) -> FeishuStream:
    return FeishuStream(app_of(gateway), guarded_client(), QUICK)


# -- events


async def test_message_is_taken_and_acknowledged(gateway: Gateway, stream: FeishuStream, listener: Listener) -> None:
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        name = await gateway.send(event())
        (sent,) = gateway.waiting[name]
        await until(lambda: gateway.taken == [name])

    (ack,) = gateway.acks
    assert (listener.texts, listener.taken[0].target.chat_id) == (["你好 👍"], "oc_1")
    assert (ack.seq_id, ack.log_id, ack.service, ack.method) == (sent.seq_id, sent.log_id, sent.service, sent.method)
    assert ack.headers[:-1] == sent.headers
    assert ack.headers[-1][0] == "biz_rt"
    assert int(ack.headers[-1][1]) < 200
    assert json.loads(ack.payload or b"") == {"code": 200}


async def test_acknowledgement_waits_until_the_message_is_stored(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    listener.stored.clear()
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send(event())
        await until(lambda: listener.at_once == 1)
        await asyncio.sleep(0.05)
        before = list(gateway.acks)
        listener.stored.set()
        await until(lambda: gateway.codes() == [200])

    assert before == []


async def test_message_that_was_not_stored_comes_again(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    listener.troubles = [NotTaken("the database is away")]
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send(event())
        await until(lambda: gateway.codes() == [500])
        gateway.cut()
        await until(lambda: gateway.codes() == [500, 200])

    assert listener.texts == ["你好 👍"]


async def test_split_message_is_joined_in_any_order(
    gateway: Gateway, stream: FeishuStream, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    text = "长" * 2000
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send(event(1, text), parts=7, order=[6, 0, 2, 1, 5, 4, 3])
        await until(lambda: len(gateway.acks) == 1)

    assert listener.texts == [text]
    assert gateway.acks[0].header("seq") == "3"
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_answer_of_a_callback_travels_as_base64(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    listener.answer = {"toast": {"type": "success", "content": "已同意 👍"}}
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send({"schema": "2.0", "header": {"event_type": "card.action.trigger"}, "event": {}})
        await until(lambda: len(gateway.acks) == 1)

    answer = json.loads(gateway.acks[0].payload or b"")
    assert answer["code"] == 200
    assert json.loads(base64.b64decode(answer["data"])) == listener.answer


async def test_event_of_an_unknown_kind_is_acknowledged(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send({"schema": "2.0", "header": {"event_type": "im.chat.updated_v1"}, "event": {}})
        await until(lambda: gateway.codes() == [200])

    assert listener.taken == []


async def test_senseless_frames_end_no_connection(
    gateway: Gateway, stream: FeishuStream, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    card = Frame(1, 1, SERVICE_ID, frames.DATA, (("type", "card"), ("message_id", "c")), payload=b"{}")
    part = Frame(1, 1, SERVICE_ID, frames.DATA, (("type", "event"), ("message_id", "p"), ("sum", "2"), ("seq", "2")))
    news = Frame(0, 0, SERVICE_ID, frames.CONTROL, (("type", "pong"),), payload=b"no JSON")
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        for data in (b"\x08", "text", *map(frames.encode, (card, part, news))):
            await gateway.send_raw(data)
        await gateway.send({"schema": "2.0", "header": {"event_type": "im.message.recalled_v1"}, "event": {}})
        await gateway.send(event())
        await until(lambda: sorted(gateway.codes()) == [200, 500])

    assert (listener.texts, gateway.opened) == (["你好 👍"], 1)
    assert [record.message for record in caplog.records if "frame" in record.message] == [
        "a frame of Feishu's long connection is unusable"
    ] * 4


async def test_a_failure_of_ours_is_logged_and_the_message_comes_again(
    gateway: Gateway, stream: FeishuStream, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    listener.troubles = [RuntimeError("a bug")]
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send(event(1))
        await gateway.send(event(2, "next"))
        await until(lambda: len(gateway.acks) == 1)
        gateway.cut()
        await until(lambda: len(gateway.taken) == 2)

    assert listener.texts == ["next", "你好 👍"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "an event of Feishu's long connection was not handled"
    ]


async def test_a_burst_is_stored_together_and_within_bounds(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    listener.stored.clear()
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        for number in range(300):
            await gateway.send(event(number, str(number)))
        await until(lambda: listener.at_once == line.MOST_AT_ONCE)
        listener.stored.set()
        await until(lambda: len(gateway.taken) == 300)

    assert listener.texts == [str(number) for number in range(300)]
    assert listener.most_at_once == line.MOST_AT_ONCE


# -- life of a connection


async def test_first_ping_comes_at_once_and_names_the_service(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    async with held(stream, listener):
        await until(lambda: len(gateway.pings) == 1)
        await until(lambda: listener.heard == 1)

    assert gateway.ping_frames == [Frame(0, 0, SERVICE_ID, frames.CONTROL, (("type", "ping"),))]
    assert listener.states == [("connecting", ""), ("connected", "")]


async def test_pong_changes_the_pace_of_pings(
    gateway: Gateway, stream: FeishuStream, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LOOK_S", 0.01)
    gateway.news = {"PingInterval": 0.05}
    async with held(stream, listener):
        await until(lambda: len(gateway.pings) == 6, within_s=4)

    assert gateway.pings[5] - gateway.pings[0] > 0.2
    assert gateway.opened == 1


async def test_endpoint_tells_the_pace(gateway: Gateway, stream: FeishuStream, listener: Listener) -> None:
    gateway.config = {"PingInterval": 0.05, "ReconnectInterval": 120, "ReconnectNonce": 30, "ReconnectCount": -1}
    async with held(stream, listener):
        await until(lambda: len(gateway.pings) == 4, within_s=4)

    assert gateway.opened == 1


async def test_silent_connection_is_replaced(gateway: Gateway, listener: Listener) -> None:
    gateway.answers_pings = False
    pace = Pace(ping_s=0.05, nonce_s=0.0, least_s=0.005, margin_s=0.1)
    async with held(FeishuStream(app_of(gateway), guarded_client(), pace), listener):
        began_at_s = time.monotonic()
        await until(lambda: gateway.opened == 2)
        took_s = time.monotonic() - began_at_s
        gateway.answers_pings = True
        await until(lambda: len(gateway.lines) == 1)
        await gateway.send(event())
        await until(lambda: listener.texts == ["你好 👍"])

    assert 0.2 <= took_s < 3.0
    assert listener.states[2] == ("waiting", "Nothing was heard for 0 s; the connection is opened again.")


@pytest.mark.parametrize("end", ["cut", "close"])
async def test_ended_connection_is_opened_anew_with_a_fresh_address(
    gateway: Gateway, stream: FeishuStream, listener: Listener, end: str
) -> None:
    async with held(stream, listener):
        await until(lambda: len(gateway.pings) == 1)
        gateway.cut() if end == "cut" else await gateway.close()
        await until(lambda: gateway.opened == 2)
        await gateway.send(event())
        await until(lambda: listener.texts == ["你好 👍"])

    assert (gateway.asked, len(set(gateway.tickets))) == (2, 2)
    assert [state for state, _ in listener.states][:5] == [
        "connecting",
        "connected",
        "waiting",
        "connecting",
        "connected",
    ]


async def test_nothing_is_lost_in_two_hundred_cuts(gateway: Gateway, stream: FeishuStream, listener: Listener) -> None:
    """A repeat is only what was cut between storing and acknowledging, which the intake knows by the message id."""
    dice, sent = random.Random(20261122), 0
    async with held(stream, listener):
        for cuts in range(200):
            await until(lambda: gateway.opened > cuts)  # noqa: B023 - awaited at once
            for _ in range(dice.randrange(4)):
                sent += 1
                await gateway.send(event(sent, str(sent)), parts=dice.choice([1, 1, 3]))
            await asyncio.sleep(dice.choice([0, 0, 0.001, 0.003]))
            gateway.cut()
        await until(lambda: not gateway.waiting)

    ids = [message.message_id for message in listener.taken]
    assert sorted(set(ids)) == sorted(f"om_{number}" for number in range(1, sent + 1))
    assert len(ids) - len(set(ids)) <= gateway.repeated
    assert gateway.opened >= 200


# -- trouble on the way there


async def told(gateway: Gateway, listener: Listener, **fields: Any) -> tuple[str, str]:
    """The first trouble that an admin is told of."""
    stream = FeishuStream(app_of(gateway, **fields), guarded_client(), QUICK)
    async with held(stream, listener):
        await until(lambda: len(listener.states) > 1)
    return listener.states[1]


async def test_wrong_secret_is_refused_in_words_and_asked_again_later(gateway: Gateway, listener: Listener) -> None:
    stream = FeishuStream(app_of(gateway, app_secret="wrong"), guarded_client(), QUICK)
    async with held(stream, listener):
        await until(lambda: gateway.asked == 1)
        began_at_s = time.monotonic()
        await until(lambda: gateway.asked == 2)
        took_s = time.monotonic() - began_at_s
        gateway.app_secret = "wrong"
        await until(lambda: gateway.opened == 1)

    assert listener.states[1] == (
        "refused",
        "Feishu, long connection: wrong App ID or App Secret: copy them again from Feishu's console "
        "(code 514, auth failed)",
    )
    assert took_s >= QUICK.recheck_s


@pytest.mark.parametrize(
    ("refusal", "state", "words"),
    [
        (Refusal(403), "refused", "enable the bot ability"),
        (Refusal(1000040350), "refused", "50 connections of this app are open"),
        (Refusal(1000040344), "refused", "is missing"),
        (Refusal(10012, "no bot"), "refused", "only custom apps with the bot ability may use it (code 10012, no bot)"),
        (Refusal(1), "waiting", "busy"),
        (Refusal(1000040343), "waiting", "busy"),
        (Refusal(0, status=503), "waiting", "busy, or not Feishu at this base address (HTTP 503)"),
        (Refusal(514, status=500), "waiting", "HTTP 500"),
    ],
)
async def test_refusal_of_the_endpoint_says_what_to_do(
    gateway: Gateway, listener: Listener, refusal: Refusal, state: str, words: str
) -> None:
    gateway.refusals.append(refusal)

    told_state, detail = await told(gateway, listener)

    assert told_state == state
    assert words in detail


@pytest.mark.parametrize(
    ("headers", "state", "words"),
    [
        ({"handshake-status": "403", "handshake-msg": "forbidden"}, "refused", "enable the bot ability"),
        ({"handshake-status": "514", "handshake-autherrcode": "1000040350"}, "refused", "50 connections"),
        ({"handshake-status": "514", "handshake-autherrcode": "1000040351"}, "waiting", "not opened (HTTP 403, 514)"),
        ({}, "waiting", "not opened (HTTP 403, no reason given)"),
    ],
)
async def test_refused_handshake_says_what_to_do(
    gateway: Gateway, listener: Listener, headers: Json, state: str, words: str
) -> None:
    gateway.handshakes.append(headers)

    told_state, detail = await told(gateway, listener)

    assert told_state == state
    assert words in detail


@pytest.mark.parametrize("address", ["", "ws://[", "mailto:x", "ws://127.0.0.1"])
async def test_answer_without_a_usable_address_is_tried_again(
    gateway: Gateway, listener: Listener, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"URL": address, "ClientConfig": "nonsense"}
    monkeypatch.setattr(gateway, "_place", lambda *_: (200, {"code": 0, "data": data}))

    assert await told(gateway, listener) == (
        "waiting",
        "Feishu, long connection: the answer has no address to connect to",
    )


async def test_gateway_inside_the_network_is_not_called(gateway: Gateway, listener: Listener) -> None:
    gateway.address = "ws://10.1.2.3:9"

    state, detail = await told(gateway, listener)

    assert state == "refused"
    assert "OUTBOUND_ALLOWED_NETWORKS" in detail
    assert "ticket" not in detail


async def test_endpoint_inside_the_network_is_not_called(gateway: Gateway, listener: Listener) -> None:
    state, detail = await told(gateway, listener, api_url="http://10.1.2.3:9")

    assert state == "refused"
    assert "OUTBOUND_ALLOWED_NETWORKS" in detail


async def test_unreachable_platform_is_tried_again(gateway: Gateway, listener: Listener) -> None:
    state, detail = await told(gateway, listener, api_url="http://127.0.0.1:9")

    assert (state, detail) == ("waiting", "Feishu, long connection: could not be reached (ConnectError)")


async def test_plain_gateway_is_refused_where_the_base_address_is_encrypted(listener: Listener) -> None:
    """Events are not signed on this way; a gateway without TLS could be anybody."""
    answer = {"code": 0, "data": {"URL": "ws://127.0.0.1:9/ws/v2?service_id=1"}}
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))
    async with held(FeishuStream(credentials(app_secret="s"), http, QUICK), listener):
        await until(lambda: len(listener.states) > 1)

    assert listener.states[1][0] == "refused"


# -- ending, and many at once


@pytest.mark.parametrize("moment", ["connected", "storing", "half open", "asking", "pausing"])
async def test_cancelling_ends_it_within_a_second(gateway: Gateway, listener: Listener, moment: str) -> None:
    slow = Pace(recheck_s=600)
    stream = FeishuStream(app_of(gateway), guarded_client(), slow)
    if moment == "asking":
        gateway.answers_after_s = 30.0
    if moment == "pausing":
        gateway.refusals.append(Refusal(403))
    async with held(stream, listener) as task:
        await until(lambda: gateway.asked == 1)
        if moment == "storing":
            listener.stored.clear()
            await until(lambda: gateway.opened == 1)
            await gateway.send(event())
            await until(lambda: listener.at_once == 1)
        if moment in ("connected", "half open"):
            await until(lambda: gateway.opened == 1)
        if moment == "half open":
            await until(lambda: len(gateway.pings) == 1)
            gateway.lines[0].transport.pause_reading()
            before = sockets()
        began_at_s = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        took_s = time.monotonic() - began_at_s
        if moment == "half open":
            await until(lambda: sockets() == before - 1, within_s=1)
            gateway.lines[0].transport.resume_reading()
        await until(lambda: not gateway.lines, within_s=1)
        assert task.cancelled()
    assert took_s < 1.0
    assert listener.at_once == 0


async def test_message_under_way_is_acknowledged_before_the_end(
    gateway: Gateway, stream: FeishuStream, listener: Listener
) -> None:
    listener.stored.clear()
    async with held(stream, listener) as task:
        await until(lambda: gateway.opened == 1)
        await gateway.send(event())
        await until(lambda: listener.at_once == 1)
        asyncio.get_running_loop().call_later(0.1, listener.stored.set)
        task.cancel()
        await asyncio.wait([task])
    await until(lambda: gateway.codes() == [200])

    assert listener.texts == ["你好 👍"]


async def test_apps_in_one_process_do_not_wait_for_each_other(gateway: Gateway) -> None:
    async with Gateway(app_id="cli_2", answers_after_s=30.0) as hanging:
        one, two = Listener(), Listener()
        first, second = (FeishuAdapter(guarded_client(), MemoryTokens()) for _ in range(2))
        async with held(second.connect(app_of(hanging)), two), held(first.connect(app_of(gateway)), one):
            await until(lambda: gateway.opened == 1)
            await gateway.send(event())
            await until(lambda: one.texts == ["你好 👍"])

    assert (two.texts, two.states) == ([], [("connecting", "")])


async def test_no_secret_and_no_address_reaches_the_log(
    gateway: Gateway, stream: FeishuStream, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    gateway.handshakes.append({"handshake-status": "514"})
    async with held(stream, listener):
        await until(lambda: gateway.opened == 1)
        await gateway.send(event())
        await until(lambda: len(gateway.taken) == 1)

    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("websockets.server")]
    everything = "\n".join([*ours, *(detail for _, detail in listener.states)])
    assert [secret for secret in (gateway.app_secret, "ticket-", "你好") if secret in everything] == []
