"""DingTalk's Stream against a fake gateway on real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations.dingtalk.stream import DingTalkStream, Timing
from integrations.errors import NotTaken
from integrations.values import BotAdded, BotRemoved, CardAction, Credentials, Ignored, Inbound, IncomingMessage

from .fake_gateway import FakeGateway, message

pytestmark = pytest.mark.usefixtures("loopback_allowed")
QUICK = Timing(silence_s=5, first_pause_s=0.01, longest_pause_s=0.05, refused_pause_s=0.3, short_life_s=0)
CARD = "/v1.0/card/instances/callback"


@pytest.fixture
def loopback_allowed(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as running:
        yield running
        assert running.oddities == []


@dataclass
class Taken:
    """A Deliver that waits where it is told to, and refuses what it is told to; and a Report."""

    events: list[Inbound] = field(default_factory=list)
    refusals: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    reports: list[tuple[str, str]] = field(default_factory=list)
    shown: dict[str, Any] | None = None

    async def __call__(self, event: Inbound) -> dict[str, Any] | None:
        self.events.append(event)
        await self.go.wait()
        if self.refusals:
            self.refusals -= 1
            raise NotTaken("no room")
        return self.shown

    def report(self, state: str, detail: str = "", *, heard: bool = False) -> None:
        if not heard:
            self.reports.append((state, detail))


@asynccontextmanager
async def connected(gateway: FakeGateway, timing: Timing = QUICK, **given: Any) -> AsyncIterator[Taken]:
    credentials = Credentials(
        id="1", platform="dingtalk", app_id=gateway.app_id, app_secret=gateway.app_secret, api_url=gateway.api_url
    )
    taken = Taken()
    taken.go.set()
    with guarded_client() as http:
        stream = DingTalkStream(replace(credentials, **given), http, timing)
        running = asyncio.create_task(stream.run(taken, taken.report))
        try:
            await gateway.until(lambda: gateway.live or given)
            yield taken
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_a_message_is_acknowledged_when_it_is_stored_and_not_before(gateway):
    async with connected(gateway) as taken:
        taken.go.clear()
        frame_id = await gateway.push(message("你好", "m1"))
        await gateway.until(lambda: taken.events)
        await asyncio.sleep(0.1)
        assert gateway.acks == {}
        taken.go.set()
        ack = await gateway.acked(frame_id)

    assert (ack["code"], json.loads(ack["data"])) == (200, {"response": None})
    [event] = taken.events
    assert isinstance(event, IncomingMessage)
    assert (event.message_id, event.text, event.sender_id) == ("m1", "你好", "staff0001")


async def test_what_could_not_be_stored_is_not_acknowledged_until_it_comes_again(gateway):
    async with connected(gateway) as taken:
        taken.refusals = 1
        first = await gateway.push(message("Hello", "m1"))
        await gateway.until(lambda: taken.events)
        again = await gateway.push(message("Hello", "m1"))
        ack = await gateway.acked(again)

    assert ack["code"] == 200
    assert first not in gateway.acks


async def test_one_slow_message_does_not_hold_up_a_ping_or_its_successors(gateway):
    async with connected(gateway) as taken:
        taken.go.clear()
        await gateway.push(message("slow", "m1"))
        await gateway.push(message("next", "m2"))
        ping = await gateway.push({"opaque": "x1"}, "ping", "SYSTEM")
        ack = await gateway.acked(ping)
        assert [event.message_id for event in taken.events] == ["m1", "m2"]
        taken.go.set()

    assert (ack["code"], json.loads(ack["data"])) == (200, {"opaque": "x1"})


@pytest.mark.parametrize(
    ("kind", "topic", "code", "data"),
    [
        ("CALLBACK", CARD, 200, {"response": {}}),
        ("EVENT", "*", 200, {"status": "SUCCESS", "message": "taken"}),
        ("CALLBACK", "/v9/unknown", 404, None),
    ],
)
async def test_other_kinds_are_answered_and_change_nothing(gateway, kind, topic, code, data):
    async with connected(gateway) as taken:
        ack = await gateway.acked(await gateway.push({"type": "actionCallback"}, topic, kind))

    assert (ack["code"], json.loads(ack["data"])) == (code, data)
    assert [event for event in taken.events if not isinstance(event, Ignored)] == []


async def test_a_pressed_button_is_told_and_answered(gateway):
    private = {"cardPrivateData": {"actionIds": ["up"], "params": {}}}
    pressed = {"outTrackId": "track-1", "userId": "staff0001", "corpId": "dingcorp", "content": json.dumps(private)}
    async with connected(gateway, corp_id="dingcorp") as taken:
        await gateway.until(lambda: gateway.live)
        taken.shown = {"userPrivateData": {"cardParamMap": {"vote": "up"}}}
        ack = await gateway.acked(await gateway.push(pressed, CARD))
        foreign = await gateway.acked(await gateway.push({**pressed, "corpId": "dingother"}, CARD))

    assert (ack["code"], json.loads(ack["data"])) == (200, {"response": taken.shown})
    assert foreign["code"] == 400
    assert taken.events == [CardAction(user_id="staff0001", card_id="track-1", button="up")]


async def test_the_end_of_a_group_is_told_and_comes_later_when_it_was_not_taken(gateway):
    gone = {"chatId": "chatX", "openConversationId": "cidGroup=="}
    async with connected(gateway) as taken:
        taken.refusals = 1
        acks = [await gateway.acked(await gateway.push_event("chat_disband", gone, "dingcorp")) for _ in range(2)]

        await gateway.acked(
            await gateway.push_event("im_cool_app_install", {**gone, "operator": "staff0001"}, "dingcorp")
        )

    assert [json.loads(ack["data"])["status"] for ack in acks] == ["LATER", "SUCCESS"]
    assert taken.events == [*[BotRemoved("cidGroup==")] * 2, BotAdded("cidGroup==", "event-1", user_id="staff0001")]


async def test_an_event_of_another_company_is_not_believed(gateway):
    async with connected(gateway, corp_id="dingcorp") as taken:
        await gateway.until(lambda: gateway.live)
        gone = {"openConversationId": "cidGroup=="}
        ack = await gateway.acked(await gateway.push_event("chat_disband", gone, "dingother"))

    assert (ack["code"], taken.events) == (400, [])


@pytest.mark.parametrize(
    "text",
    [
        "not json at all",
        '{"type":"CALLBACK"}',
        "[]",
        '{"type":"SYSTEM","headers":7}',
        '{"type":["x"],"headers":{"topic":null}}',
        '{"type":"CALLBACK","headers":{"topic":"/v1.0/im/bot/messages/get"},"data":"{"}',
        '{"a":' * 60 + "1" + "}" * 60,
    ],
)
async def test_a_broken_frame_does_no_harm(gateway, text):
    async with connected(gateway) as taken:
        await gateway.live[0].send(text)
        ack = await gateway.acked(await gateway.push(message("Hello", "m1")))

    assert ack["code"] == 200
    assert [event.message_id for event in taken.events] == ["m1"]
    assert len(gateway.lines) == 1


async def test_an_unusable_message_is_refused_as_such(gateway):
    async with connected(gateway) as taken:
        foreign = await gateway.acked(await gateway.push(message("Hello", "m1", robotCode="dingother")))
        nameless = await gateway.acked(await gateway.push({**message("Hello", "m1"), "msgId": None}))

    assert (foreign["code"], nameless["code"]) == (400, 400)
    assert taken.events == []


async def test_an_over_quota_notice_is_taken_as_over_http(gateway):
    async with connected(gateway) as taken:
        ack = await gateway.acked(await gateway.push({"msgtype": "text", "errorCode": 20001, "conversationType": "1"}))

    assert ack["code"] == 200
    assert taken.events == [Ignored("over_quota")]


async def test_after_a_disconnect_the_successor_is_open_before_the_old_line_is_closed(gateway):
    async with connected(gateway) as taken:
        await gateway.live[0].disconnect()
        await gateway.until(lambda: len(gateway.lines) == 2)
        await gateway.until(lambda: gateway.open == gateway.lines[1:])

    assert gateway.lines[1].companions == 1
    assert "waiting" not in [state for state, _ in taken.reports]


async def test_what_is_under_way_at_a_disconnect_is_acknowledged_on_its_own_line(gateway):
    async with connected(gateway) as taken:
        taken.go.clear()
        under_way = await gateway.push(message("Hello", "m1"))
        await gateway.until(lambda: taken.events)
        await gateway.live[0].disconnect()
        await gateway.until(lambda: len(gateway.lines) == 2)
        taken.go.set()
        ack = await gateway.acked(under_way)

    assert ack["code"] == 200


async def test_a_cut_line_is_opened_again(gateway):
    async with connected(gateway) as taken:
        gateway.live[0].cut()
        await gateway.until(lambda: len(gateway.lines) == 2 and gateway.live)
        await gateway.acked(await gateway.push(message("Hello", "m1")))

    assert [state for state, _ in taken.reports] == ["connecting", "connected", "waiting", "connecting", "connected"]


async def test_a_silent_line_is_replaced_although_it_answers_pings(gateway):
    async with connected(gateway, replace(QUICK, silence_s=0.2)):
        await gateway.until(lambda: len(gateway.lines) >= 2)
        await gateway.until(lambda: len(gateway.open) == 1)
        await gateway.acked(await gateway.push(message("Hello", "m1")))


async def test_a_line_that_speaks_is_kept(gateway):
    async with connected(gateway, replace(QUICK, silence_s=0.4)):
        for _ in range(4):
            await asyncio.sleep(0.2)
            await gateway.push({"opaque": "x"}, "ping", "SYSTEM")

        assert len(gateway.lines) == 1


async def test_a_wrong_secret_is_said_in_words_and_not_hammered(gateway):
    async with connected(gateway, app_secret="wrong") as taken:
        await gateway.until(lambda: len(gateway.asked) == 2)

    assert next(report for report in taken.reports if report[0] != "connecting") == (
        "refused",
        "DingTalk refused to open the Stream connection: check app_id and app_secret, that the app and its robot are "
        "published, and that the robot's receive mode is Stream (code authFailed)",
    )
    assert gateway.asked_at[1] - gateway.asked_at[0] >= QUICK.refused_pause_s


@pytest.mark.parametrize("fault", [(503, {"code": "busy"}), (200, {"endpoint": None}), (500, {}), (429, {})])
async def test_a_busy_gateway_is_asked_again(gateway, fault):
    gateway.faults.append(fault)
    quick = replace(QUICK, refused_pause_s=0.01)

    async with connected(gateway, quick) as taken:
        await gateway.acked(await gateway.push(message("Hello", "m1")))

    assert taken.reports[1][0] in ("waiting", "refused")
    assert len(gateway.asked) == 2


async def test_pauses_grow_with_failures_and_are_short_again_once_dingtalk_was_heard(gateway, monkeypatch):
    monkeypatch.setattr("integrations.listening.random.uniform", lambda least, most: most)
    gateway.faults.extend([(503, {})] * 8)

    async with connected(gateway, replace(QUICK, first_pause_s=0.005, longest_pause_s=0.5)):
        await gateway.acked(await gateway.push({"opaque": "x"}, "ping", "SYSTEM"))
        cut_at = time.monotonic()
        gateway.live[0].cut()
        await gateway.until(lambda: len(gateway.asked) == 10)

    gaps = [after - before for before, after in itertools.pairwise(gateway.asked_at[:9])]
    assert all(gap >= 0.005 * 2**number for number, gap in enumerate(gaps[:7]))
    assert gaps[7] < 0.64  # not above the longest pause
    assert gateway.asked_at[9] - cut_at < 0.3


async def test_a_blocked_address_waits_for_the_five_minutes(gateway):
    gateway.faults.append((200, {"status": 1111, "wait": 5, "source": "x5", "punish": "deny"}))

    async with connected(gateway, robot_code="dingapp") as taken:
        await gateway.until(lambda: len(taken.reports) == 2)
        await asyncio.sleep(0.5)

    assert taken.reports[1][0] == "waiting"
    assert "for five minutes" in taken.reports[1][1]
    assert len(gateway.asked) == 1


async def test_it_subscribes_to_events_messages_and_cards(gateway):
    async with connected(gateway):
        [asked] = gateway.asked

    assert asked["subscriptions"] == [
        {"type": "EVENT", "topic": "*"},
        {"type": "CALLBACK", "topic": "/v1.0/im/bot/messages/get"},
        {"type": "CALLBACK", "topic": CARD},
    ]


async def test_neither_secret_nor_ticket_is_written_to_the_log(gateway, caplog):
    with caplog.at_level(logging.DEBUG):
        async with connected(gateway):
            gateway.live[0].cut()
            await gateway.until(lambda: len(gateway.lines) == 2)

    ours = [r.getMessage() + str(r.exc_info) for r in caplog.records if not r.name.startswith("websockets.server")]
    assert [line for line in ours if "ticket=" in line or gateway.app_secret in line] == []


async def test_the_end_closes_the_socket_after_what_is_under_way(gateway):
    async with connected(gateway) as taken:
        taken.go.clear()
        frame_id = await gateway.push(message("Hello", "m1"))
        await gateway.until(lambda: taken.events)
        asyncio.get_running_loop().call_later(0.2, taken.go.set)

    assert gateway.acks[frame_id]["code"] == 200
    await gateway.until(lambda: not gateway.open)


async def test_a_gateway_that_is_not_there_is_said_in_words(gateway):
    async with connected(gateway, api_url="http://127.0.0.1:9") as taken:
        await gateway.until(lambda: len(taken.reports) > 2)

    assert taken.reports[1] == (
        "waiting",
        "DingTalk was not reached to open the Stream connection: check this server's network and DingTalk's address; "
        "it is tried again",
    )
