"""Callbacks while the counter of a limited endpoint hangs with Redis."""

from __future__ import annotations

import asyncio
import time

import pytest

from bots.models import Endpoint
from tests import factories
from tests.bots.callbacks import feishu_event, in_database, path_of, post
from tests.servers.lost_redis import lost_redis

pytestmark = pytest.mark.django_db(transaction=True)


def _endpoint(limit: int) -> Endpoint:
    return factories.endpoint(credential=factories.credential("feishu"), rate_limit_per_minute=limit)


async def ask(endpoint: Endpoint, number: int) -> int:
    return (await post(path_of(endpoint), *feishu_event(endpoint, message_id=f"om_{number}")))[0]


async def test_a_limited_endpoint_stalls_neither_itself_nor_the_others():
    limited, other = await in_database(_endpoint)(10), await in_database(_endpoint)(0)
    with lost_redis("hanging"):
        started = time.monotonic()
        crowd = asyncio.gather(*(ask(limited, number) for number in range(20)))
        await asyncio.sleep(0.2)  # by now the counters' threads wait for Redis

        asked_at = time.monotonic()
        assert await ask(other, 100) == 200  # its address is looked up in a thread
        assert time.monotonic() - asked_at < 0.5
        assert await crowd == [200] * 20
        assert time.monotonic() - started < 2.5
