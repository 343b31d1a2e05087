"""The life of Feishu's long connection: its pings, cuts, successors and its end."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations.feishu import frames, line
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.frames import Frame
from integrations.feishu.pace import Pace
from integrations.feishu.stream import FeishuStream
from tests.integrations.doubles import MemoryTokens

from .conftest import app_of
from .fake_gateway import SERVICE_ID, Gateway, Refusal
from .listening import Listener, event, held, until

pytestmark = pytest.mark.usefixtures("loopback_allowed")


def sockets() -> int:
    """How many this process has open, the fake's included."""
    files = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(str(entry.readlink()).startswith("socket:") for entry in files)


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
    assert took_s < 5
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
