"""What publishing and following cost when Redis is slow or lost, and that nothing is missed when it is there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
from channels.layers import InMemoryChannelLayer
from redis.exceptions import ConnectionError as RedisConnectionError

from bots import workers
from integrations import resting
from integrations.resting import Resting
from integrations.web import live, outbox
from integrations.web.layer import EmbeddedChannelLayer
from tests.servers.lost_redis import lost_redis, production_shape


@pytest.mark.parametrize("kind", ["hanging", "gone"])
def test_a_writer_never_waits_for_a_lost_redis(kind: str) -> None:
    with lost_redis(kind):
        started = time.monotonic()
        live.restart("a")
        for length in range(1, 200):
            live.publish("a", "x" * length, length - 1)
        live.settle("a")

        assert time.monotonic() - started < 0.3


def test_readers_of_a_hanging_redis_wait_once() -> None:
    with lost_redis("hanging"):
        started = time.monotonic()

        assert [live.so_far("a") for _ in range(20)] == [""] * 20
        assert time.monotonic() - started < 1.9


@pytest.fixture(params=["embedded", "redis"])
def shape(request: pytest.FixtureRequest) -> Iterator[None]:
    with production_shape(request.getfixturevalue("redis_url")) if request.param == "redis" else nullcontext():
        yield


async def test_a_follower_hears_pieces_then_the_end(shape: None) -> None:
    message_id, heard = f"m{time.time_ns()}", []
    async with live.follow(message_id) as feed:
        assert await feed.next(0.1) is None
        live.publish(message_id, "one ", 0)
        heard.append(await feed.next(5))
        assert await feed.next(0.3) is None
        live.publish(message_id, "one two", 4)
        heard.append(await feed.next(5))
        live.settle(message_id)
        heard.append(await feed.next(5))
        assert await live.text_so_far(message_id) == "one two"

    deltas = [{"type": "delta", "offset": at, "text": text} for at, text in ((0, "one "), (4, "two"))]
    assert heard == [*deltas, {"type": "settled"}]


class LostLater(InMemoryChannelLayer):
    """A layer that can be joined; then Redis goes, as redis-py reports it."""

    async def receive(self, channel: str) -> dict[str, Any]:
        raise RedisConnectionError

    async def group_discard(self, group: str, channel: str) -> None:
        raise RedisConnectionError


async def test_a_follower_whose_redis_is_lost_later_hears_nothing_and_leaves_in_peace(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.LostLater"}}
    async with live.follow("a") as feed:
        heard = [await feed.next(0.1), await feed.next(0.1)]

    assert heard == [None, None]


class EndsOnce(EmbeddedChannelLayer):
    """The loop of the first follower ends while a piece is on its way to it."""

    ended = False

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if not EndsOnce.ended:
            EndsOnce.ended = True
            raise asyncio.CancelledError
        await super().group_send(group, message)


async def test_a_followers_loop_that_ends_takes_nobody_elses_pieces(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.EndsOnce"}}
    own = outbox.Outbox()
    async with live.follow("b") as feed:
        for message_id in ("a", "b"):
            with own.news(message_id) as news:
                news.add("one", 0)
        heard = await feed.next(5)

    assert heard == {"type": "delta", "offset": 0, "text": "one"}


class Slow(EmbeddedChannelLayer):
    told: ClassVar[list[dict[str, Any]]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await asyncio.sleep(0.2)
        self.told.append(message)


def test_a_worker_that_ends_tells_the_followers_first(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Slow"}}
    live.settle("a")
    workers.on_end()

    assert Slow.told == [{"type": "settled"}]


def test_the_wait_for_a_slow_redis_has_an_end() -> None:
    with lost_redis("hanging"):
        live.settle("a")
        live.publish("b", "one", 0)

        assert not live.flush(0.05)


# -- the outbox ----------------------------------------------------------------------------------------------------


def test_pieces_that_wait_become_one() -> None:
    news = outbox.News()
    news.add("one ", 0)
    news.add("one two ", 4)
    news.add("one two three", 8)
    news.is_settled = True

    assert list(news.events()) == [{"type": "delta", "offset": 0, "text": "one two three"}, {"type": "settled"}]


def test_a_restart_takes_back_the_pieces_that_wait() -> None:
    news = outbox.News()
    news.add("one two", 4)
    news.restart()
    news.add("other", 0)

    assert list(news.events()) == [{"type": "restart"}, {"type": "delta", "offset": 0, "text": "other"}]


def test_no_more_answers_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_ANSWERS", 3)
    monkeypatch.setattr(outbox.Outbox, "_start_once", lambda self: None)  # nothing is sent
    full = outbox.Outbox()
    for number in (1, 2, 3, 4, 1):
        with full.news(str(number)) as news:
            news.add(f"text of {number}", 0)

    assert list(full._waiting) == ["1", "2", "3"]


# -- resting -------------------------------------------------------------------------------------------------------


def ask(rest: Resting, *, is_down: bool) -> str:
    try:
        with rest.asked():
            if is_down:
                raise RedisConnectionError
    except resting.RedisLost as error:
        return "failed" if error.__cause__ else "rested"
    return "answered"


def test_a_lost_redis_is_left_alone_then_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "REST_S", 0.1)
    rest = Resting()

    assert [ask(rest, is_down=True), ask(rest, is_down=False)] == ["failed", "rested"]
    time.sleep(0.11)
    assert [ask(rest, is_down=False), ask(rest, is_down=False)] == ["answered", "answered"]


def test_after_the_rest_one_caller_tries_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "REST_S", 0.1)
    rest, trying, may_end = Resting(), threading.Event(), threading.Event()
    ask(rest, is_down=True)
    time.sleep(0.11)
    monkeypatch.setattr(resting, "REST_S", 5.0)

    def try_slowly() -> None:
        with rest.asked():
            trying.set()
            may_end.wait(5)

    prober = threading.Thread(target=try_slowly)
    prober.start()
    assert trying.wait(5)
    assert ask(rest, is_down=False) == "rested"
    may_end.set()
    prober.join(5)
    assert ask(rest, is_down=False) == "answered"
