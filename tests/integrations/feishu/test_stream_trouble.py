"""Feishu's long connection that cannot be opened: what an admin is told, and when it is tried again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations.feishu.stream import FeishuStream

from .conftest import app_of, credentials
from .fake_gateway import Gateway, Refusal
from .listening import QUICK, Json, Listener, held, until

pytestmark = pytest.mark.usefixtures("loopback_allowed")


async def told(gateway: Gateway, listener: Listener, **fields: Any) -> tuple[str, str]:
    """The first trouble that an admin is told of."""
    stream = FeishuStream(app_of(gateway, **fields), guarded_client(), QUICK)
    async with held(stream, listener):
        await until(lambda: len(listener.states) > 1)
    return listener.states[1]


async def test_wrong_secret_is_refused_in_words_and_asked_again_later(gateway: Gateway, listener: Listener) -> None:
    slow = replace(QUICK, recheck_s=0.2)
    stream = FeishuStream(app_of(gateway, app_secret="wrong"), guarded_client(), slow)
    async with held(stream, listener):
        await until(lambda: gateway.asked == 1)
        began_at_s = time.monotonic()
        await until(lambda: gateway.asked == 2)
        took_s = time.monotonic() - began_at_s
        gateway.app_secret = "wrong"
        await until(lambda: gateway.opened == 1)

    assert listener.states[1] == (
        "refused",
        "Feishu, long connection: wrong App ID or App Secret: copy them again from Feishu's console "
        "(code 514, auth failed)",
    )
    assert took_s > 0.15  # the first question is noticed a little late


@pytest.mark.parametrize(
    ("refusal", "state", "words"),
    [
        (Refusal(403), "refused", "enable the bot ability"),
        (Refusal(1000040350), "refused", "50 connections of this app are open"),
        (Refusal(1000040344), "refused", "is missing"),
        (Refusal(10012, "no bot"), "refused", "only custom apps with the bot ability may use it (code 10012, no bot)"),
        (Refusal(1), "waiting", "busy"),
        (Refusal(1000040343), "waiting", "busy"),
        (Refusal(0, status=503), "waiting", "busy, or not Feishu at this base address (HTTP 503)"),
        (Refusal(514, status=500), "waiting", "HTTP 500"),
    ],
)
async def test_refusal_of_the_endpoint_says_what_to_do(
    gateway: Gateway, listener: Listener, refusal: Refusal, state: str, words: str
) -> None:
    gateway.refusals.append(refusal)

    told_state, detail = await told(gateway, listener)

    assert told_state == state
    assert words in detail


@pytest.mark.parametrize(
    ("headers", "state", "words"),
    [
        ({"handshake-status": "403", "handshake-msg": "forbidden"}, "refused", "enable the bot ability"),
        ({"handshake-status": "514", "handshake-autherrcode": "1000040350"}, "refused", "50 connections"),
        ({"handshake-status": "514", "handshake-autherrcode": "1000040351"}, "waiting", "not opened (HTTP 403, 514)"),
        ({}, "waiting", "not opened (HTTP 403, no reason given)"),
    ],
)
async def test_refused_handshake_says_what_to_do(
    gateway: Gateway, listener: Listener, headers: Json, state: str, words: str
) -> None:
    gateway.handshakes.append(headers)

    told_state, detail = await told(gateway, listener)

    assert told_state == state
    assert words in detail


@pytest.mark.parametrize("address", ["", "ws://[", "mailto:x", "ws://127.0.0.1"])
async def test_answer_without_a_usable_address_is_tried_again(
    gateway: Gateway, listener: Listener, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"URL": address, "ClientConfig": "nonsense"}
    monkeypatch.setattr(gateway, "_place", lambda *_: (200, {"code": 0, "data": data}))

    assert await told(gateway, listener) == (
        "waiting",
        "Feishu, long connection: the answer has no address to connect to",
    )


async def test_gateway_inside_the_network_is_not_called(gateway: Gateway, listener: Listener) -> None:
    gateway.address = "ws://10.1.2.3:9"

    state, detail = await told(gateway, listener)

    assert state == "refused"
    assert "OUTBOUND_ALLOWED_NETWORKS" in detail
    assert "ticket" not in detail


async def test_endpoint_inside_the_network_is_not_called(gateway: Gateway, listener: Listener) -> None:
    state, detail = await told(gateway, listener, api_url="http://10.1.2.3:9")

    assert state == "refused"
    assert "OUTBOUND_ALLOWED_NETWORKS" in detail


async def test_unreachable_platform_is_tried_again(gateway: Gateway, listener: Listener) -> None:
    state, detail = await told(gateway, listener, api_url="http://127.0.0.1:9")

    assert (state, detail) == ("waiting", "Feishu, long connection: could not be reached (ConnectError)")


async def test_plain_gateway_is_refused_where_the_base_address_is_encrypted(listener: Listener) -> None:
    """Events are not signed on this way; a gateway without TLS could be anybody."""
    answer = {"code": 0, "data": {"URL": "ws://127.0.0.1:9/ws/v2?service_id=1"}}
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))
    async with held(FeishuStream(credentials(app_secret="s"), http, QUICK), listener):
        await until(lambda: len(listener.states) > 1)

    assert listener.states[1][0] == "refused"
