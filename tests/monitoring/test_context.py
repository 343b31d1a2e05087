from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory

from monitoring.context import ANONYMOUS, SYSTEM, Actor, Context, RequestContext, bind, current

CLIENT = Actor("client", "7", "CRM")


async def seen_by_an_application(scope: dict[str, Any]) -> tuple[Context, list[dict[str, Any]]]:
    """What an application below RequestContext sees from a worker thread, and what it sent."""
    seen: list[Context] = []
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await sync_to_async(current)())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def send(message: Any) -> None:
        sent.append(message)

    await RequestContext(application)(scope, None, send)
    return seen[0], sent


def http(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "client": ("203.0.113.9", 1), "headers": list(headers)}


def test_the_system_acts_when_nothing_is_bound():
    assert current() == Context()
    assert current().actor == SYSTEM


def test_bindings_nest_when_bound_twice():
    with bind(request_id="outer", address="1.1.1.1"), bind(actor=CLIENT) as inner:
        assert (inner.request_id, inner.address, inner.actor) == ("outer", "1.1.1.1", CLIENT)
    assert current() == Context()


async def test_request_context_binds_and_answers_the_id_when_it_is_well_formed():
    context, sent = await seen_by_an_application(http((b"x-request-id", b"abc-123.XYZ")))

    assert (context.request_id, context.address, context.actor) == ("abc-123.XYZ", "203.0.113.9", ANONYMOUS)
    assert sent[0]["headers"] == [(b"a", b"b"), (b"x-request-id", b"abc-123.XYZ")]
    assert current() == Context()


@pytest.mark.parametrize("forged", [b"", b"short", b"a b c d e f g h", b"x" * 65, b"12345678\n", b"\xff" * 10])
async def test_request_context_makes_an_id_when_the_given_one_is_not_well_formed(forged):
    context, _ = await seen_by_an_application(http((b"x-request-id", forged)))

    assert len(context.request_id) == 32
    assert context.request_id.encode() != forged


async def test_request_context_hands_through_when_it_is_neither_http_nor_websocket():
    context, _ = await seen_by_an_application({"type": "lifespan"})

    assert context == Context()


def test_the_actor_is_read_late_when_the_request_is_signed_in_late():
    request = RequestFactory().get("/")
    with bind(request=request) as context:
        assert context.actor == ANONYMOUS
        request.user = AnonymousUser()
        assert context.actor == ANONYMOUS
        request.user = SimpleNamespace(is_authenticated=True, pk=3, get_username=lambda: "olga")
        assert context.actor == Actor("user", "3", "olga")
        request.auth = SimpleNamespace(audit_actor=CLIENT)
        assert context.actor == CLIENT
    with bind(request=request, actor=SYSTEM) as context:
        assert context.actor == SYSTEM
