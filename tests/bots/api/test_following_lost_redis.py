"""Followers of an answer without Redis: they find it in the database, over the WebSocket and over REST."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator

from bots import following
from bots.following import Settled, follow
from bots.models import Message
from clawdbot_site.asgi import application
from clawdbot_site.security import jwt
from clawdbot_site.security.models import User
from tests import factories
from tests.servers.lost_redis import lost_redis

pytestmark = pytest.mark.django_db(transaction=True)
in_database = database_sync_to_async


@pytest.fixture(params=["hanging", "gone"])
def no_redis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.2)
    with lost_redis(request.param):
        yield


class Line:
    """A program that talks to the bot ``helper`` over the WebSocket."""

    def __init__(self) -> None:
        self._line = WebsocketCommunicator(application, "/ws/chat/helper/", [(b"host", b"127.0.0.1")])
        self._line.scope["client"] = ("127.0.0.1", 1234)

    async def open(self, token: str) -> None:
        assert (await self._line.connect(timeout=10))[0]
        await self.say(type="auth", token=token)
        assert (await self.hear())["type"] == "ready"

    async def say(self, **frame: str) -> None:
        await self._line.send_to(text_data=json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        return dict(json.loads(await self._line.receive_from(timeout=10)))

    async def close(self) -> None:
        await self._line.disconnect()


@pytest.fixture
async def line(bot) -> AsyncIterator[Line]:
    user = await in_database(User.objects.create_user)("owner", password="x", is_staff=True)
    made = Line()
    await made.open(await in_database(jwt.issue_access)(user, ["chat"]))
    yield made
    await made.close()


async def test_a_follower_finds_the_answer_in_the_database(no_redis):
    question = await in_database(factories.web_question)(status="answering")
    following_it = asyncio.ensure_future(_end_of(question))
    await asyncio.sleep(0.5)
    await _settle(question, "the answer")

    end = await asyncio.wait_for(following_it, 4)  # without a limit on joining it takes the Redis client's own 5 s

    assert (end.text, end.is_failure) == ("the answer", False)


async def test_one_follower_waits_for_a_hanging_redis_the_next_does_not(no_redis):
    question = await in_database(factories.web_question)(status="answering")
    await _settle(question, "the answer")
    await _end_of(question)

    started = time.monotonic()
    ends = await asyncio.gather(*(_end_of(question) for _ in range(20)))

    assert [end.text for end in ends] == ["the answer"] * 20
    assert time.monotonic() - started < 0.9


async def test_the_websocket_answers(no_redis, line, worker):
    await line.say(type="message", id="1", text="Hello")

    assert (await line.hear())["type"] == "accepted"
    frames = [await line.hear()]
    while frames[-1]["type"] == "delta":
        frames.append(await line.hear())
    assert (frames[-1]["type"], frames[-1]["text"]) == ("done", "echo: Hello")


def test_rest_answers(no_redis, rest, bot, worker):
    response = rest.post("/api/v1/bots/helper/messages/", {"text": "Hello"})

    assert (response.status_code, response.json()["text"]) == (200, "echo: Hello")
    assert Message.objects.get(role="user").cancel_requested_at is None


async def test_the_websocket_tells_when_an_answer_cannot_be_followed(line, monkeypatch, caplog):
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.2)
    await line.say(type="message", id="1", text="Hello")
    accepted = await line.hear()
    await in_database(Message.objects.all().delete)()

    error = await line.hear()

    assert (error["type"], error["code"], error["message_id"]) == ("error", "failed", accepted["message_id"])
    assert [entry.message_id for entry in caplog.records if entry.exc_info] == [accepted["message_id"]]


async def _end_of(question: Message) -> Settled:
    *_, end = [event async for event in follow(question.pk, 20)]
    assert isinstance(end, Settled)
    return end


async def _settle(question: Message, text: str) -> None:
    await question.replies.acreate(
        conversation_id=question.conversation_id, role="assistant", platform="web", text=text, status="delivered"
    )
    await Message.objects.filter(pk=question.pk).aupdate(status="delivered")
