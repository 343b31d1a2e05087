"""Many reconnects with random cuts, against the real intake and real turns: nothing is lost, nothing answered twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from bots import inbound, turns
from bots.listening import Events
from bots.models import Conversation, Endpoint, Message
from clawdbot_site.security.outbound import guarded_client
from integrations import pacing
from integrations.dingtalk.stream import DingTalkStream, Timing
from integrations.errors import NotTaken
from integrations.values import Inbound
from tests import factories

from .fake_dingtalk import FakeDingTalk
from .fake_gateway import FakeGateway, Line, message

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = Timing(silence_s=0.3, first_pause_s=0.002, longest_pause_s=0.02, refused_pause_s=0.02, short_life_s=0)
TIMES_SENT = 20  # a message that is not acknowledged is sent again, and at some time given up


@pytest.fixture
def dingtalk(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDingTalk]:
    """Where the answers go; without DingTalk's pace, which is tested elsewhere."""
    monkeypatch.setattr(pacing, "wait_for", lambda *_: 0.0)
    with FakeDingTalk() as fake:
        settings.PLATFORM_URLS = {**settings.PLATFORM_URLS, "dingtalk": (fake.api_url, fake.oapi_url)}
        yield fake


@pytest.fixture
async def gateway(settings: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGateway]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    monkeypatch.setattr(inbound, "FLUSH_S", 0.05)
    async with FakeGateway() as running:
        yield running
        assert running.oddities == []


class Chaos:
    """Pushes messages and ends lines in every way; what is not acknowledged it sends again, with a new frame id."""

    def __init__(self, gateway: FakeGateway, seed: int) -> None:
        self.gateway, self.random = gateway, random.Random(seed)
        self.pushed: list[str] = []
        self._frames: dict[str, list[str]] = {}

    async def live(self) -> Line:
        await self.gateway.until(lambda: self.gateway.live, limit_s=10)
        return self.gateway.live[-1]

    async def end_a_line(self) -> None:
        line, count = await self.live(), len(self.gateway.lines)
        await self.send(f"m{len(self.pushed)}", line)
        await self.random.choice([self._cut, self._cut_in_a_frame, self._close, self._leave, self._fall_silent])(line)
        if self.random.random() < 0.1:
            self.gateway.faults.append((503, {"code": "busy"}))
        await self.gateway.until(lambda: len(self.gateway.lines) > count, limit_s=10)

    async def send(self, message_id: str, line: Line) -> None:
        if message_id not in self._frames:
            self.pushed.append(message_id)
        frame_id = await self.gateway.push(message(message_id, message_id), line=line)
        self._frames.setdefault(message_id, []).append(frame_id)

    def unacked(self) -> list[str]:
        good = {frame_id for frame_id, ack in self.gateway.acks.items() if ack["code"] == 200}
        return [message_id for message_id, sent in self._frames.items() if not good.intersection(sent)]

    async def send_the_rest(self) -> None:
        for _ in range(TIMES_SENT):
            for message_id in self.unacked():
                await self.send(message_id, await self.live())
            with suppress(AssertionError):
                await self.gateway.until(lambda: not self.unacked(), limit_s=1)
            if not self.unacked():
                return

    # -- how a line ends ----------------------------------------------------------------------------------------

    async def _cut(self, line: Line) -> None:
        """At once after the push, or a little later: before the acknowledgement, in it, or after it."""
        await asyncio.sleep(self.random.choice([0, 0, self.random.uniform(0, 0.02)]))
        line.cut()

    async def _cut_in_a_frame(self, line: Line) -> None:
        line.cut_in_a_frame()

    async def _close(self, line: Line) -> None:
        await line.socket.close()

    async def _leave(self, line: Line) -> None:
        await line.disconnect()

    async def _fall_silent(self, line: Line) -> None:
        """The gateway forgets the line: it neither closes it nor hears what comes."""
        line.is_leaving = line.is_deaf = True


def make_endpoint(dingtalk: FakeDingTalk) -> Endpoint:
    app = {"app_id": dingtalk.app_id, "app_secret": dingtalk.app_secret}
    bot = factories.bot(rate_limit_per_user_per_minute=0, max_waiting=0)
    return factories.endpoint(bot=bot, credential=factories.credential("dingtalk", **app), mode="stream")


def work_off() -> None:
    for conversation_id in Conversation.objects.values_list("pk", flat=True):
        turns.work(conversation_id, may_answer=True)


async def storm(gateway: FakeGateway, dingtalk: FakeDingTalk, cuts: int) -> Chaos:
    endpoint = await sync_to_async(make_endpoint)(dingtalk)
    values = {"app_id": gateway.app_id, "app_secret": gateway.app_secret, "base_url": gateway.api_url}
    credentials = factories.PlatformCredential(platform="dingtalk", **values).values()
    chaos = Chaos(gateway, seed=cuts)
    deliver = Events(endpoint.pk)

    async def sometimes(event: Inbound) -> None:
        if chaos.random.random() < 0.05:
            raise NotTaken("the database is away")
        await deliver(event)

    with guarded_client() as http:
        running = asyncio.create_task(DingTalkStream(credentials, http, QUICK).run(sometimes, lambda *_, **__: None))
        for _ in range(cuts):
            await chaos.end_a_line()
        await chaos.send_the_rest()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return chaos


@pytest.mark.parametrize("cuts", [50, pytest.param(1000, marks=pytest.mark.long)])
async def test_no_cut_loses_a_message_or_has_it_answered_twice(gateway, dingtalk, cuts):
    chaos = await storm(gateway, dingtalk, cuts)
    stored = await sync_to_async(
        lambda: list(Message.objects.filter(role="user").values_list("external_id", flat=True))
    )()

    assert len(gateway.lines) > cuts
    assert chaos.unacked() == []
    assert sorted(stored) == sorted(chaos.pushed)
    await sync_to_async(work_off)()
    assert sorted(text for _via, text in dingtalk.seen) == sorted(f"echo: {message_id}" for message_id in chaos.pushed)
    await gateway.until(lambda: not gateway.open)
