"""What comes by Feishu's long connection, from a fake gateway on real sockets: taken, stored, acknowledged."""

from __future__ import annotations

import asyncio
import base64
import json
from logging import ERROR, WARNING

import pytest

from integrations.errors import NotTaken
from integrations.feishu import frames, line
from integrations.feishu.frames import Frame
from integrations.feishu.stream import FeishuStream
from tests import logged

from .fake_gateway import SERVICE_ID, Gateway
from .listening import Listener, event, held, until

pytestmark = pytest.mark.usefixtures("loopback_allowed")


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
    assert [record.message for record in logged.by(caplog, "integrations.feishu") if record.levelno >= WARNING] == []


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
    assert [record.message for record in logged.by(caplog, "integrations.feishu") if record.levelno == ERROR] == [
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
