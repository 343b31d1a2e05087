"""The door in front of HTTP and WebSocket: who comes in, how much may be sent, and what is noted (N1, N2, N6, W4)."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from clawdbot_site.security import gate, rule_book
from clawdbot_site.security.areas import area_of
from clawdbot_site.security.gate import Gate
from clawdbot_site.security.ip_rules import Rule
from clawdbot_site.security.rule_book import RuleBook
from monitoring import audit
from monitoring.models import AuditLog

from .visiting import BLOCK, VISITOR, Book, Site, status_of, visit

# -- who comes in --


@pytest.mark.parametrize(
    ("path", "area"),
    [
        ("/admin/login/", "admin"),
        ("/admin", "admin"),
        ("/administrator/", "site"),
        ("/api/v1/bots/", "api"),
        ("/api/v1/hooks/k/", "webhooks"),
        ("/v1/models", "api"),
        ("/ws/chat/demo/", "api"),
        ("/webhooks/feishu/k", "webhooks"),
        ("/livez", "site"),
        ("/metrics", "site"),
        ("/", "site"),
        ("/static/admin/x.css", "site"),
    ],
)
def test_area_follows_the_path(path, area):
    assert area_of(path) == area


async def test_visitor_comes_in_with_address_and_request_id_when_nothing_forbids_it():
    sent, site, _read = await visit(Book(), "/api/v1/bots/")
    assert site.scopes[0]["clawdbot.client_ip"] == VISITOR
    assert sent[0]["status"] == 200
    assert len(dict(sent[0]["headers"])[b"x-request-id"]) >= 8


@pytest.mark.rule("N6")
@pytest.mark.parametrize(("path", "is_json"), [("/api/v1/x/", True), ("/webhooks/feishu/k/", True), ("/admin/", False)])
async def test_blocked_visitor_is_refused_before_the_body_is_read(path, is_json):
    sent, site, read = await visit(Book(BLOCK), path, chunks=(b"secret",))
    assert (sent[0]["status"], site.scopes, read) == (403, [], [])
    headers = dict(sent[0]["headers"])
    if is_json:
        error = json.loads(sent[1]["body"])["error"]
        assert set(error) == {"code", "message", "request_id"}
        assert error["request_id"] == headers[b"x-request-id"].decode()
    else:
        assert headers[b"content-type"].startswith(b"text/html")


@pytest.mark.rule("N6")
async def test_blocked_visitor_is_closed_with_4403_when_it_opens_a_websocket():
    sent, site, _read = await visit(Book(BLOCK), "/ws/chat/demo/", kind="websocket")
    assert (sent, site.scopes) == ([{"type": "websocket.close", "code": 4403}], [])


async def test_rule_of_one_area_leaves_the_others_open():
    book = Book(Rule("r", "block", f"{VISITOR}/32", "admin"))
    paths = ["/admin/", "/api/v1/bots/", "/webhooks/feishu/k/", "/livez"]
    assert [await status_of(book, path) for path in paths] == [403, 200, 200, 200]


async def test_probe_is_refused_only_by_rules_of_the_whole_site():
    assert await status_of(Book(Rule("r", "allow", "10.0.0.0/8", "api")), "/livez") == 200
    assert await status_of(Book(Rule("r", "allow", "10.0.0.0/8", "site")), "/livez") == 403


@pytest.mark.rule("N2")
async def test_unknown_address_is_refused_only_when_a_rule_is_in_force():
    assert await status_of(Book(BLOCK), client=None) == 403
    assert await status_of(Book(), client=None) == 200


@pytest.mark.rule("N1")
async def test_forged_forwarding_header_changes_nothing_when_the_peer_is_no_proxy():
    forged = [(b"x-forwarded-for", b"10.0.0.1"), (b"x-real-ip", b"10.0.0.1")]
    assert await status_of(Book(BLOCK), headers=forged) == 403


async def test_trusted_proxy_is_believed(settings):
    settings.TRUSTED_PROXIES = ["10.9.9.9/32"]
    headers = [(b"x-forwarded-for", f"203.0.113.1, {VISITOR}".encode())]
    assert await status_of(Book(BLOCK), headers=headers, client="10.9.9.9") == 403
    assert await status_of(Book(BLOCK), headers=[(b"x-forwarded-for", b"203.0.113.1")], client="10.9.9.9") == 200


async def test_lifespan_passes_through_when_the_server_sends_it():
    reached = []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    await Gate(app, Book(BLOCK))({"type": "lifespan"}, None, None)
    assert reached == ["lifespan"]


# -- sizes and headers --


@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/webhooks/feishu/k/", 1024 * 1024, 200),
        ("/webhooks/feishu/k/", 1024 * 1024 + 1, 413),
        ("/api/v1/hooks/k/", 1024 * 1024 + 1, 413),
        ("/api/v1/bots/", 10 * 1024 * 1024, 200),
        ("/api/v1/bots/", 10 * 1024 * 1024 + 1, 413),
        ("/admin/", 10**30, 413),
    ],
)
async def test_announced_body_is_judged_before_it_is_read(path, length, status):
    sent, _site, read = await visit(Book(), path, headers=[(b"content-length", str(length).encode())])
    assert sent[0]["status"] == status
    assert (read == []) == (status == 413)


@pytest.mark.rule("W4")
async def test_body_without_length_is_cut_when_it_grows_too_large():
    site, book = Site(), Book()
    sent, _site, read = await visit(book, "/webhooks/dingtalk/k/", chunks=[b"x" * 600_000] * 5, site=site)
    assert (sent[0]["status"], len(read), len(site.body)) == (413, 2, 600_000)
    assert book.noted == [("webhook.rejected", "webhooks", "size: the body is too large", VISITOR)]


async def test_announced_size_is_noted():
    book = Book()
    await visit(book, "/webhooks/feishu/k/", headers=[(b"content-length", b"9999999")])
    assert book.noted == [("webhook.rejected", "webhooks", "size: the body is too large", VISITOR)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-length", b"-1")], 400),
        ([(b"content-length", b"")], 400),
        ([(b"content-length", b"1"), (b"Content-Length", b"2")], 400),
        ([(b"host", b"a"), (b"host", b"b")], 400),
        ([(b"authorization", b"a"), (b"authorization", b"b")], 400),
        ([(b"x-a", b"1")] * 200, 431),
        ([(b"x-a", b"1" * 70_000)], 431),
    ],
)
async def test_malformed_headers_are_refused_before_the_body_is_read(headers, status):
    sent, site, read = await visit(Book(), "/api/v1/bots/", headers=headers)
    assert (sent[0]["status"], site.scopes, read) == (status, [], [])


# -- what the port did not read --


@pytest.mark.rule("W4")
@pytest.mark.parametrize(("cut", "status"), [("too large", 413), ("too slow", 408)])
async def test_what_the_port_did_not_read_is_answered_and_noted(cut, status):
    book, site = Book(), Site()
    scope = {"type": "http", "path": "/webhooks/feishu/k/", "headers": [], "client": (VISITOR, 1), "clawdbot.cut": cut}
    sent: list = []

    async def send(message):
        sent.append(message)

    await Gate(site, book)(scope, None, send)
    assert (sent[0]["status"], site.scopes, len(book.noted)) == (status, [], 1)


# -- audit --


@pytest.mark.django_db
def test_refusal_is_audited_once_when_it_comes_in_a_flood():
    audit.REFUSALS.clear()
    book = RuleBook(lambda: [BLOCK], lambda: (1, 1))
    book.start = lambda: None
    for _ in range(20):
        asyncio.run(visit(book, "/admin/"))
    book._hits.clear()  # there is no row to count them on
    book.flush()
    entries = list(AuditLog.objects.all())
    assert [(e.action, e.address, e.outcome, e.reason, e.actor_kind, e.target_label) for e in entries] == [
        ("network.refused", VISITOR, "refused", "blocked", "anonymous", "admin r1")
    ]
    assert entries[0].request_id


@pytest.mark.django_db
def test_callback_that_is_too_large_is_audited_and_other_bodies_are_not():
    audit.REFUSALS.clear()
    book = RuleBook(list, lambda: (1, 1))
    book.start = lambda: None
    for path in ("/webhooks/feishu/k/", "/webhooks/feishu/k/", "/api/v1/bots/"):
        asyncio.run(visit(book, path, headers=[(b"content-length", b"99999999")]))
    book.flush()

    entries = list(AuditLog.objects.values_list("action", "address", "target_label", "reason"))
    assert entries == [("webhook.rejected", VISITOR, "webhooks", "size: the body is too large")]


# -- endpoints --


def test_endpoint_rule_is_asked_when_the_webhook_door_knows_the_endpoint(monkeypatch):
    mine, other = uuid.uuid4(), uuid.uuid4()
    book = Book(Rule("r", "block", f"{VISITOR}/32", "webhooks", mine))
    book.load()
    monkeypatch.setattr(rule_book, "rules", book)
    scope = {"type": "http", "clawdbot.client_ip": VISITOR}
    assert [gate.admits_to_endpoint(scope, one) for one in (mine, other)] == [False, True]
    assert book.noted == [("network.refused", f"endpoint {mine} r", "blocked", VISITOR)]
