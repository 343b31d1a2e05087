"""How many requests an address may send (rule A10)."""

from __future__ import annotations

import json

import pytest

from clawdbot_site.security import pace
from clawdbot_site.security.gate import Gate
from clawdbot_site.security.pace import Pace
from tests.security.visiting import VISITOR, Book, Site, visit

pytestmark = pytest.mark.rule("A10")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_requests_may_come_at_once_and_then_evenly():
    clock = Clock()
    limit = Pace(clock)
    assert [limit.wait_s(VISITOR, 60) for _ in range(62)] == [0] * 60 + [1, 1]
    clock.now += 1
    assert [limit.wait_s(VISITOR, 60) for _ in range(2)] == [0, 1]
    clock.now += 600
    assert [limit.wait_s(VISITOR, 60) for _ in range(61)] == [0] * 60 + [1]


def test_addresses_wait_for_themselves_and_an_ipv6_customer_is_one():
    limit = Pace(Clock())
    assert [limit.wait_s(address, 1) for address in ("203.0.113.1", "203.0.113.2", "203.0.113.1")] == [0, 0, 60]
    assert [limit.wait_s(f"2001:db8::{number:x}", 1) for number in (1, 2)] == [0, 60]


def test_no_limit_and_no_address_never_wait():
    limit = Pace(Clock())
    assert {limit.wait_s(VISITOR, 0) for _ in range(100)} == {limit.wait_s("", 1) for _ in range(100)} == {0}


def test_memory_stays_bounded(monkeypatch):
    monkeypatch.setattr(pace, "MOST_CALLERS", 100)
    clock = Clock()
    limit = Pace(clock)
    for number in range(1000):
        limit.wait_s(f"10.0.{number >> 8}.{number & 255}", 60)
        clock.now += 0.01
    assert len(limit._even_at) <= 100


async def several(settings, path: str, **options) -> list[int]:
    """The answers to four requests through one gate that lets two pass."""
    gate = Gate(Site(), Book())
    return [await status_of_gate(gate, path, **options) for _ in range(4)]


async def status_of_gate(gate, path: str, client: str = VISITOR, headers=()) -> int:
    sent: list = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    await gate({"type": "http", "path": path, "headers": list(headers), "client": (client, 1)}, receive, send)
    return sent[0]["status"]


async def test_the_gate_asks_an_address_to_wait(settings):
    settings.REQUESTS_PER_MINUTE, settings.TOKEN_REQUESTS_PER_MINUTE = 2, 100
    assert await several(settings, "/api/v1/bots/") == [200, 200, 429, 429]
    forged = [(b"x-forwarded-for", b"203.0.113.1")]
    assert await several(settings, "/admin/", headers=forged) == [200, 200, 429, 429]


async def test_token_endpoints_have_a_limit_of_their_own(settings):
    settings.REQUESTS_PER_MINUTE, settings.TOKEN_REQUESTS_PER_MINUTE = 100, 2
    assert await several(settings, "/api/v1/auth/token/refresh/") == [200, 200, 429, 429]
    assert await several(settings, "/api/v1/bots/") == [200] * 4


async def test_callbacks_loopback_and_proxies_are_not_counted(settings):
    settings.REQUESTS_PER_MINUTE = 2
    settings.TRUSTED_PROXIES = ["10.9.9.9/32"]
    assert await several(settings, "/webhooks/feishu/k/") == [200] * 4
    for address in ("127.0.0.1", "::1", "10.9.9.9"):
        assert await several(settings, "/admin/", client=address) == [200] * 4


async def test_the_answer_says_how_long_and_the_log_why(settings, monkeypatch):
    settings.REQUESTS_PER_MINUTE = 1
    monkeypatch.setattr(Pace, "wait_s", lambda *args: 7)
    book = Book()
    sent, site, _read = await visit(book, "/api/v1/bots/")

    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"], site.scopes) == (429, b"7", [])
    assert json.loads(sent[1]["body"])["error"]["code"] == "rate_limited"
    assert book.noted == [("network.refused", "api", "too many requests", VISITOR)]
    sent, _site, _read = await visit(book, "/ws/chat/demo/", kind="websocket")
    assert sent == [{"type": "websocket.close", "code": 4429}]
