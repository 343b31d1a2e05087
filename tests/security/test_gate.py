"""The door in front of HTTP and WebSocket: refusals, limits, and rules that follow the database (N2, N3, N5, N6)."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError

from clawdbot_site.security import gate, rule_book
from clawdbot_site.security.areas import area_of
from clawdbot_site.security.gate import Gate
from clawdbot_site.security.ip_rules import Rule
from clawdbot_site.security.models import IPRule
from clawdbot_site.security.rule_book import RuleBook
from monitoring import audit
from monitoring.models import AuditLog

VISITOR = "198.51.100.7"
BLOCK = Rule("r1", "block", f"{VISITOR}/32", "site")


class Site:
    """The application behind the gate: reads the body, answers 200, and remembers that it was reached."""

    def __init__(self) -> None:
        self.scopes: list = []
        self.body = b""

    async def __call__(self, scope, receive, send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        while True:
            message = await receive()
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})


class Book(RuleBook):
    """Rules from a list; no thread, unless asked for."""

    def __init__(self, *rules: Rule, **options) -> None:
        self.rows = list(rules)
        super().__init__(lambda: list(self.rows), lambda: (len(self.rows), hash(tuple(self.rows))), **options)
        self.noted: list[tuple[str, str, str, str]] = []

    def start(self) -> None:
        pass

    def note(self, action, label, reason, address) -> None:
        self.noted.append((action, label, reason, address))


async def visit(book, path="/", *, kind="http", headers=(), chunks=(b"",), client=VISITOR, site=None):
    """Return (what was sent, the site). ``chunks`` are the body."""
    site = site or Site()
    sent: list = []
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]
    waiting = waiting if kind == "http" else [{"type": "websocket.connect"}]
    read: list = []

    async def receive():
        read.append(waiting[0]["type"])
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers), "client": (client, 1) if client else None}
    await Gate(site, book)(scope, receive, send)
    return sent, site, read


async def status_of(book, path="/", **options) -> int:
    sent, _site, _read = await visit(book, path, **options)
    return sent[0]["status"]


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


# -- following the database --


class Broken(Book):
    def load(self) -> None:
        raise DatabaseError("gone")


async def test_visitors_wait_and_probes_pass_when_the_rules_were_never_read():
    book = Broken()
    assert [await status_of(book, path) for path in ("/api/v1/bots/", "/admin/", "/livez", "/readyz")] == [
        503,
        503,
        200,
        200,
    ]


@pytest.mark.rule("N5")
def test_last_good_rules_stay_when_the_database_is_lost():
    book = Book(BLOCK)
    book.load()
    book._revision = lambda: (_ for _ in ()).throw(DatabaseError("gone"))
    with pytest.raises(DatabaseError):
        book.load()
    assert not book.decide(VISITOR, "site").allowed


def follow(book: RuleBook, is_done, within_s: float) -> float:
    """Start the book's thread, wait for ``is_done``, stop it; returns the seconds it took."""
    started = time.monotonic()
    RuleBook.start(book)
    try:
        while not is_done() and time.monotonic() - started < within_s + 3:
            time.sleep(0.02)
        return time.monotonic() - started
    finally:
        book.stop()


@pytest.mark.rule("N5")
@pytest.mark.django_db
def test_change_is_live_within_two_seconds_when_another_process_made_it():
    book = Book()
    book.load()
    assert book.decide(VISITOR, "site").allowed
    book.rows.append(BLOCK)
    assert follow(book, lambda: not book.decide(VISITOR, "site").allowed, 2) < 2


@pytest.mark.django_db
def test_thread_goes_on_when_a_look_fails():
    book = Book(poll_s=0.05)
    book.load()
    failures = [DatabaseError("gone"), ValueError("unexpected")]

    def revision():
        if failures:
            raise failures.pop()
        return (1, 1)

    book._revision = revision
    book.rows.append(BLOCK)
    assert follow(book, lambda: not book.decide(VISITOR, "site").allowed, 2) < 2


def test_stopped_book_does_not_start_again():
    book = Book()
    book.stop()
    RuleBook.start(book)
    assert not book.is_running


@pytest.mark.django_db
def test_revision_changes_when_any_rule_is_made_changed_or_deleted():
    seen = [rule_book.read_revision()]
    rule = IPRule.objects.create(action="block", network="10.0.0.5/8")
    seen.append(rule_book.read_revision())
    rule.action = "allow"
    rule.save(update_fields=["action"])
    seen.append(rule_book.read_revision())
    IPRule.objects.create(action="block", network="11.0.0.0/8")
    rule.delete()
    seen.append(rule_book.read_revision())
    assert len(set(seen)) == 4


@pytest.mark.django_db
def test_revision_stays_when_only_hits_are_counted():
    rule = IPRule.objects.create(action="block", network="10.0.0.0/8")
    before = rule_book.read_revision()
    book = RuleBook()
    book.load()
    book.decide("10.0.0.1", "site")
    book.flush_hits()
    rule.refresh_from_db()
    assert (rule.hits, rule_book.read_revision()) == (1, before)


@pytest.mark.django_db
def test_own_change_is_live_at_once_when_committed(django_capture_on_commit_callbacks, monkeypatch):
    book = RuleBook()
    book.load()
    monkeypatch.setattr(rule_book, "rules", book)
    with django_capture_on_commit_callbacks(execute=True):
        rule = IPRule.objects.create(action="block", network=VISITOR)
    refused = not book.decide(VISITOR, "site").allowed
    with django_capture_on_commit_callbacks(execute=True):
        rule.delete()
    assert (refused, book.decide(VISITOR, "site").allowed) == (True, True)


@pytest.mark.django_db
def test_rows_become_rules_when_read():
    endpoint = uuid.uuid4()
    IPRule.objects.create(action="block", network="::ffff:10.0.0.5/104", scope="webhooks", endpoint_id=endpoint)
    IPRule.objects.create(action="block", network="12.0.0.0/8", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    rows = [(r.action, r.network, r.scope, r.endpoint_id, r.expires_at) for r in rule_book.read_rules()]
    assert rows == [("block", "10.0.0.0/8", "webhooks", endpoint, None)]


@pytest.mark.django_db
def test_hits_are_kept_when_they_cannot_be_written(monkeypatch):
    rule = IPRule.objects.create(action="block", network="10.0.0.0/8")
    book = RuleBook()
    book.load()
    for _ in range(3):
        book.decide("10.0.0.1", "site")
    with monkeypatch.context() as broken:
        broken.setattr(IPRule.objects, "filter", lambda **_: (_ for _ in ()).throw(DatabaseError("gone")))
        with pytest.raises(DatabaseError):
            book.flush_hits()
    book.decide("10.0.0.1", "site")
    book.flush_hits()
    rule.refresh_from_db()
    assert rule.hits == 4
    assert rule.last_hit_at is not None


# -- rules on trial --


@pytest.mark.django_db
def test_rule_on_trial_refuses_nobody_and_is_counted_and_noted():
    audit.REFUSALS.clear()
    rule = IPRule.objects.create(action="block", network=VISITOR, is_dry_run=True)
    book = RuleBook()
    book.load()
    book.start = lambda: None
    sent = [asyncio.run(visit(book, "/admin/"))[0] for _ in range(3)]
    book.flush()
    rule.refresh_from_db()

    assert ([one[0]["status"] for one in sent], rule.hits) == ([200] * 3, 3)
    (entry,) = AuditLog.objects.all()
    assert (entry.action, entry.target_label, entry.reason) == ("network.would_refuse", f"admin {rule.pk}", "blocked")


@pytest.mark.django_db
def test_allow_list_on_trial_tells_whom_it_would_refuse():
    audit.REFUSALS.clear()
    IPRule.objects.create(action="allow", network="10.0.0.0/8", is_dry_run=True, scope="admin")
    book = RuleBook()
    book.load()
    book.start = lambda: None
    statuses = [asyncio.run(status_of(book, path)) for path in ("/admin/", "/api/v1/bots/")]
    book.flush()
    assert statuses == [200, 200]
    assert list(AuditLog.objects.values_list("reason", flat=True)) == ["not in the allow list"]


def test_rule_that_counts_is_counted_once_beside_one_on_trial():
    book = Book(BLOCK, Rule("t", "block", "198.51.100.0/24", "site", is_dry_run=True))
    book.load()
    assert [book.decide(address, "site").rule_id for address in (VISITOR, "198.51.100.8")] == ["r1", None]
    assert dict(book._hits) == {"r1": 1, "t": 1}


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
