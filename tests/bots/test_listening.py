"""Who holds the long connections: the supervisor with the real DingTalk client, against a fake gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from bots import holding, inbound, listening
from bots.listening import Events, Supervisor
from bots.models import Endpoint, LongConnection, Message
from integrations.base import Adapter
from integrations.errors import NotTaken
from integrations.registry import adapter_for
from integrations.values import Ignored, Recalled
from monitoring.models import AuditLog
from tests import factories
from tests.integrations.dingtalk.fake_gateway import FakeGateway, message

pytestmark = pytest.mark.django_db(transaction=True)
T = TypeVar("T")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    monkeypatch.setattr(listening, "LOOK_S", 0.2)
    monkeypatch.setattr(inbound, "FLUSH_S", 0.05)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as running:
        yield running
        assert running.oddities == []


async def rows(work: Callable[[], T]) -> T:
    return await sync_to_async(work)()


async def stream_endpoint(gateway: FakeGateway, **credential: Any) -> Endpoint:
    given = {"app_id": gateway.app_id, "app_secret": gateway.app_secret, "base_url": gateway.api_url, **credential}
    return await rows(
        lambda: factories.endpoint(credential=factories.credential("dingtalk", **given), mode=Endpoint.Mode.STREAM)
    )


@asynccontextmanager
async def listens(holder: str = "one") -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(Supervisor(holder).run())
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def becomes(check: Callable[[], object], limit_s: float = 5.0) -> None:
    """Wait for something in the database."""
    end = time.monotonic() + limit_s
    while not await rows(check):
        assert time.monotonic() < end, "the database waits in vain"
        await asyncio.sleep(0.05)


async def test_a_message_over_a_new_endpoints_connection_is_stored_once(gateway):
    async with listens():
        endpoint = await stream_endpoint(gateway)
        await gateway.until(lambda: gateway.live)
        for _ in range(2):
            assert (await gateway.acked(await gateway.push(message("你好", "m1"))))["code"] == 200
        stored = await rows(lambda: list(Message.objects.values_list("text", "external_id", "conversation__endpoint")))
        await becomes(lambda: Endpoint.objects.get(pk=endpoint.pk).last_event_at)

    assert stored == [("你好", "m1", endpoint.pk)]


async def test_a_webhook_endpoint_gets_no_connection(gateway):
    endpoint = await stream_endpoint(gateway)
    await rows(lambda: Endpoint.objects.filter(pk=endpoint.pk).update(mode="webhook"))

    async with listens():
        await asyncio.sleep(0.6)

    assert gateway.asked == []


@pytest.mark.parametrize("table", ["endpoint", "bot"])
async def test_a_disabled_endpoint_is_closed_within_five_seconds(gateway, monkeypatch, table):
    monkeypatch.setattr(listening, "LOOK_S", 2.0)  # as it is in the product
    endpoint = await stream_endpoint(gateway)
    async with listens():
        await gateway.until(lambda: gateway.live)
        disabled = endpoint if table == "endpoint" else endpoint.bot
        await rows(lambda: type(disabled).objects.filter(pk=disabled.pk).update(is_enabled=False))
        await gateway.until(lambda: not gateway.open)
        await becomes(lambda: LongConnection.objects.get().state == "idle")

    assert len(gateway.lines) == 1


async def test_a_changed_secret_is_followed_by_a_new_connection(gateway):
    endpoint = await stream_endpoint(gateway)
    async with listens():
        await gateway.until(lambda: gateway.live)
        gateway.app_secret = "the-new-one"
        await rows(lambda: _save(endpoint.credential, app_secret="the-new-one"))
        await gateway.until(lambda: len(gateway.lines) == 2 and gateway.open == gateway.lines[1:])

    assert [asked["clientSecret"] for asked in gateway.asked] == ["secret-of-the-app", "the-new-one"]


async def test_a_wrong_secret_stands_on_the_endpoint_until_it_is_right(gateway):
    endpoint = await stream_endpoint(gateway, app_secret="wrong")
    async with listens():
        await becomes(lambda: Endpoint.objects.get().last_error)
        refused = await rows(LongConnection.objects.get)
        said = (await rows(Endpoint.objects.get)).last_error
        await rows(lambda: _save(endpoint.credential, app_secret=gateway.app_secret))
        await becomes(lambda: LongConnection.objects.get().state == "connected")
        await becomes(lambda: Endpoint.objects.get().last_error == "")

    assert (refused.state, refused.detail) == ("refused", said)
    assert "check app_id and app_secret" in said


async def test_a_platform_without_long_connections_says_so(monkeypatch):
    monkeypatch.setattr(adapter_for("feishu"), "connect", partial(Adapter.connect, adapter_for("feishu")))
    await rows(lambda: factories.endpoint(mode=Endpoint.Mode.STREAM))

    async with listens():
        await becomes(lambda: Endpoint.objects.get().last_error == "feishu has no long connection; choose webhook")


async def test_the_row_tells_how_the_connection_is(gateway):
    await stream_endpoint(gateway)
    async with listens("the holder"):
        await gateway.until(lambda: gateway.live)
        gateway.live[0].cut()
        await gateway.until(lambda: len(gateway.lines) == 2)
        await gateway.push({"opaque": "x"}, "ping", "SYSTEM")
        heard = LongConnection.objects.filter(state="connected", reconnects=1, last_event_at__gt=F("connected_at"))
        await becomes(heard.exists)
        held = await rows(LongConnection.objects.get)
        assert (held.holder, held.current_state) == ("the holder", "connected")
    released = await rows(LongConnection.objects.get)

    assert (released.holder, released.state, released.current_state) == ("", "idle", "idle")


async def test_two_listeners_hold_one_connection_and_the_second_takes_over_at_once(gateway):
    await stream_endpoint(gateway)
    async with listens("two"):
        await gateway.until(lambda: gateway.live)
        async with listens("one"):
            await asyncio.sleep(0.6)
            assert len(gateway.lines) == 1
    assert gateway.open == []
    async with listens("one"):
        await gateway.until(lambda: gateway.live, limit_s=2)

    assert len(gateway.lines) == 2


async def test_a_dead_holders_connection_is_taken_over_when_its_lease_lapses(gateway, monkeypatch):
    monkeypatch.setattr(holding, "LAPSE_S", 1.0)
    endpoint = await stream_endpoint(gateway)
    await rows(lambda: LongConnection.objects.create(endpoint=endpoint))
    await rows(lambda: holding.claim([endpoint.pk], "dead"))
    started = time.monotonic()

    async with listens("alive"):
        await gateway.until(lambda: gateway.live)

    assert time.monotonic() - started > 0.7


async def test_a_holder_that_lost_its_lease_closes(gateway):
    await stream_endpoint(gateway)
    async with listens("one"):
        await gateway.until(lambda: gateway.live)
        await rows(lambda: LongConnection.objects.update(holder="other", fence=F("fence") + 1))
        await gateway.until(lambda: not gateway.open)
        await asyncio.sleep(0.5)
    row = await rows(LongConnection.objects.get)

    assert len(gateway.lines) == 1
    assert row.holder == "other"


async def test_the_end_releases_a_claim_whose_answer_was_lost(gateway):
    endpoint = await stream_endpoint(gateway, app_id="another")
    await rows(lambda: holding.claim([endpoint.pk], "one"))
    await rows(lambda: Endpoint.objects.update(is_enabled=False))

    async with listens("one"):
        await asyncio.sleep(0.3)

    assert (await rows(LongConnection.objects.get)).holder == ""


async def test_a_holder_that_cannot_renew_closes_by_itself(gateway, monkeypatch):
    monkeypatch.setattr(holding, "LAPSE_S", 1.0)
    monkeypatch.setattr(listening, "LOOK_S", 60.0)  # as if the database did not answer
    await stream_endpoint(gateway)

    async with listens():
        await gateway.until(lambda: gateway.live)
        await gateway.until(lambda: not gateway.open, limit_s=3)


async def test_a_disabled_endpoints_event_is_not_taken(gateway):
    endpoint = await stream_endpoint(gateway)
    await rows(lambda: Endpoint.objects.filter(pk=endpoint.pk).update(is_enabled=False))

    with pytest.raises(NotTaken):
        await Events(endpoint.pk)(factories.incoming("Hello"))


async def test_events_keep_their_order(gateway):
    endpoint = await stream_endpoint(gateway)
    take = Events(endpoint.pk)

    await asyncio.gather(*(take(factories.incoming(str(number))) for number in range(20)))
    stored = await rows(lambda: list(Message.objects.order_by("received_at", "id").values_list("text", flat=True)))

    assert stored == [str(number) for number in range(20)]


async def test_an_event_of_another_company_is_dropped_and_audited(gateway):
    """The connection was opened before the first message pinned the company."""
    endpoint = await stream_endpoint(gateway)
    take = Events(endpoint.pk)
    await take(factories.incoming("ours", tenant_id="corp1"))

    await take(factories.incoming("theirs", tenant_id="corp2"))

    assert await rows(lambda: list(Message.objects.values_list("text", flat=True))) == ["ours"]
    assert await rows(AuditLog.objects.filter(action="event.rejected").count) == 1


async def test_a_recalled_message_is_cancelled(gateway):
    endpoint = await stream_endpoint(gateway)
    take = Events(endpoint.pk)

    await take(factories.incoming("Hello", message_id="m1"))
    await take(Recalled("m1"))
    await take(Ignored("whatever"))

    assert [one.cancel_requested_at is not None for one in await rows(lambda: list(Message.objects.all()))] == [True]


@pytest.mark.parametrize(
    ("held_s", "shown"),
    [(10, "connected since 2026-01-02 03:04, held by host:1:x, reconnected 3 times"), (-1, "nobody holds it")],
)
def test_the_endpoints_page_shows_how_its_connection_is(client, settings, held_s, shown):
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected
    settings.TIME_ZONE, settings.LANGUAGE_CODE = "UTC", "en"
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    endpoint = factories.endpoint(mode=Endpoint.Mode.STREAM)
    LongConnection.objects.create(
        endpoint=endpoint,
        holder="host:1:x",
        held_until=timezone.now() + timedelta(seconds=held_s),
        state="connected",
        connected_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        reconnects=3,
    )

    page = client.get(reverse("admin:bots_endpoint_change", args=[endpoint.pk])).content.decode()

    assert shown in page


def test_listen_is_refused_in_the_embedded_mode(settings):
    settings.EMBEDDED = True

    with pytest.raises(CommandError, match="REDIS_URL is not set, so `make run` holds the long connections itself"):
        call_command("listen")


def _save(row: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()
