"""Every process is restarted under load, as systemd does it: no callback is refused, and people notice nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from tests.chaos.judge import Asked, judge
from tests.chaos.people import PATIENCE_S, People
from tests.chaos.sender import Message, Platform
from tests.chaos.services import OTHERS, WEB, Restart, ServedSite
from tests.integrations.dingtalk.fake_gateway import FakeGateway

RATE, STREAM_RATE = 18.0, 2.0  # messages a second: callbacks, and over the long connection
ROUNDS, ALL = 2, "all"
BETWEEN = 60  # messages from one restart to the next, at least
STREAM_CHAT, STREAM_CHATS = 100_000, 60  # numbers that no other chat has; in one alone the platform's pace would count
ACKED_WITHIN_S = 3.0
SETTLED_WITHIN_S = 180.0  # a busy machine is behind by then
QUIET_S = 2.0  # a double may come late


class Gateway(FakeGateway):
    """Takes every ticket: the fake platforms give them out."""

    async def _admit(self, connection: ServerConnection, request: Request) -> None:
        return None


class Talker:
    """One person in many chats over the long connection: each message is pushed until it is acknowledged."""

    def __init__(self, gateway: FakeGateway, platform: Platform) -> None:
        self._gateway, self._platform = gateway, platform
        self.asked: list[Asked] = []
        self.is_over = False

    async def talk(self) -> None:
        for number in itertools.count():
            if self.is_over:
                return
            turn, chat = divmod(number, STREAM_CHATS)
            name = f"c{STREAM_CHAT + chat}"
            message = Message(f"{name}m{turn}", name, "dingtalk-plain", f"{name}m{turn} hi")
            message.began_s = time.monotonic()
            while not await self._acked(message):
                await self._gateway.until(lambda: self._gateway.live, PATIENCE_S)
            message.accepted_s = time.monotonic()
            self.asked.append(message.asked)
            await asyncio.sleep(1 / STREAM_RATE)

    async def _acked(self, message: Message) -> bool:
        if not self._gateway.live:
            return False
        frame_id = await self._gateway.push(self._platform.dingtalk_message(message, "dingtalk-stream"))
        end_s = time.monotonic() + ACKED_WITHIN_S
        while frame_id not in self._gateway.acks and time.monotonic() < end_s:
            await asyncio.sleep(0.02)
        return self._gateway.acks.get(frame_id, {}).get("code") == HTTPStatus.OK


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as running:
        yield running
        assert running.oddities == []


def restarted(site: ServedSite, people: People) -> list[Restart]:
    """Every process twice, one after the other; then all at once, as an upgrade does. Messages go on all the while."""
    done: list[Restart] = []
    for name in (*(WEB, *OTHERS) * ROUNDS, ALL):
        people.wait_for_more(BETWEEN)
        done.append(site.restart_all() if name == ALL else site.restart(name))
    people.wait_for_more(BETWEEN)
    return done


@pytest.mark.long
async def test_restarts_under_load_refuse_no_callback_and_people_notice_nothing(folder: Path, gateway: Gateway) -> None:
    site = ServedSite(folder, gateway.endpoint)
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(site.__enter__)
        stack.push_async_callback(asyncio.to_thread, site.__exit__)
        people = People(site, RATE)
        talker = Talker(gateway, people.platform)
        talking = asyncio.create_task(talker.talk())
        restarts = await asyncio.to_thread(restarted, site, people)
        asked = await asyncio.to_thread(people.finish)
        talker.is_over = True
        await talking
        await asyncio.to_thread(site.wait_until_settled, SETTLED_WITHIN_S)
        await asyncio.sleep(QUIET_S)

        verdict = judge([*asked, *talker.asked], site.shown(), site.statuses(), ())
    longest_s = max(one.accepted_s - one.began_s for one in asked if one.accepted_s)
    print(
        *restarts,
        f"{len(asked)} callbacks, the longest wait {longest_s:.1f} s; {len(talker.asked)} by Stream",
        sep="\n",
    )
    assert people.refusals == []
    assert (verdict.faults, verdict.unconfirmed) == ({}, [])
    assert verdict.answered == verdict.asked == len(asked) + len(talker.asked)
