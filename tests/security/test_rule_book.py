"""Rules that follow the database: live soon, kept when it is lost, counted, and on trial (N5)."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError

from clawdbot_site.security import rule_book
from clawdbot_site.security.ip_rules import Rule
from clawdbot_site.security.models import IPRule
from clawdbot_site.security.rule_book import RuleBook
from monitoring import audit
from monitoring.models import AuditLog

from .visiting import BLOCK, VISITOR, Book, status_of, visit

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
