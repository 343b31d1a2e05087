from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.test import RequestFactory

from monitoring import audit
from monitoring.context import Actor, bind
from monitoring.models import AuditLog

CLIENT = Actor("client", "7", "CRM")


@pytest.fixture
def group(no_groups: None) -> Group:
    return Group.objects.create(name="auditors")


@pytest.mark.rule("U2")
def test_an_entry_tells_who_what_where_and_why_when_recorded(group, django_assert_num_queries):
    changes = {"name": {"before": "a", "after": "b"}}
    with (
        bind(actor=CLIENT, request_id="request-1", address="203.0.113.9"),
        django_assert_num_queries(1),
    ):
        audit.record("group.changed", target=group, changes=changes, outcome="failure", reason="too late")

    entry = AuditLog.objects.get()
    assert (entry.actor_kind, entry.actor_id, entry.actor_label) == ("client", "7", "CRM")
    assert (entry.action, entry.outcome, entry.reason, entry.count) == ("group.changed", "failure", "too late", 1)
    assert (entry.target_type, entry.target_id, entry.target_label) == ("auth.group", str(group.pk), "auditors")
    assert (entry.address, entry.request_id, entry.changes) == ("203.0.113.9", "request-1", changes)
    assert entry.created_at.tzinfo is not None


def test_the_requests_user_is_the_actor_when_nobody_else_is_bound(owner):
    request = RequestFactory().get("/")
    request.user = owner
    with bind(request=request):
        audit.record("bot.created")

    entry = AuditLog.objects.get()
    assert (entry.actor_kind, entry.actor_id, entry.actor_label) == ("user", str(owner.pk), "olga")


@pytest.mark.rule("U3")
def test_entry_and_change_go_together_when_the_transaction_rolls_back(group):
    @transaction.atomic
    def delete_and_fail() -> None:
        audit.record_deleted(group)
        group.delete()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        delete_and_fail()

    assert (AuditLog.objects.count(), Group.objects.count()) == (0, 1)


@pytest.mark.rule("U3")
def test_no_change_happens_when_its_entry_cannot_be_written(group):
    @transaction.atomic
    def change() -> None:
        Group.objects.filter(pk=group.pk).update(name="changed")
        audit.record("group.changed", outcome="nonsense")

    with pytest.raises(IntegrityError):
        change()

    assert Group.objects.get().name == "auditors"


@pytest.mark.parametrize("action", ["", "created", "Bot.created", "bot.", "bot created", "bot.created\n", "бот.x"])
def test_an_action_is_refused_when_it_is_not_dotted_lower_case(db, action):
    with pytest.raises(ValueError):
        audit.record(action)


@pytest.mark.rule("U8")
def test_log_injection_fails_when_texts_hold_control_characters(db):
    with bind(actor=Actor("user", "1\n", "ol\rga"), address="1.1.1.1"):
        audit.record("bot.created", target_label="a\nb\x00\u202e" + "x" * 300, reason="\ud800\x1b[31m")

    entry = AuditLog.objects.get()
    assert (entry.actor_id, entry.actor_label, entry.reason) == ("1\\x0a", "ol\\x0dga", "\\ud800\\x1b[31m")
    assert entry.target_label.startswith("a\\x0ab\\x00\\u202exxx")
    assert len(entry.target_label) == 200


@pytest.mark.rule("U2", "E10")
def test_secrets_stay_out_when_a_caller_passes_them(db):
    audit.record("credential.changed", changes={"app_secret": {"before": "canary-1", "after": "canary-2"}})

    assert "canary" not in json.dumps(AuditLog.objects.get().changes)


def test_record_changed_writes_nothing_when_nothing_changed(group):
    audit.record_changed(group, audit.snapshot(group, many_to_many=True))

    assert AuditLog.objects.count() == 0


@pytest.mark.rule("U1")
def test_a_flood_of_refusals_is_one_entry_at_once_and_a_count_later(db, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(audit.REFUSALS, "_clock", lambda: now[0])
    with bind(address="203.0.113.9"):
        written = [audit.record_refusal("webhook.rejected", target_label="e1", reason="signature") for _ in range(50)]
        audit.record_refusal("webhook.rejected", target_label="e1", reason="too old")
        audit.record_refusal("webhook.rejected", target_label="e2", reason="signature")
    now[0] = 61
    with bind(address="198.51.100.1"):
        audit.record_refusal("webhook.rejected", target_label="e1", reason="signature")

    assert written == [True] + [False] * 49
    rows = AuditLog.objects.order_by("id").values_list("address", "target_label", "reason", "count", "outcome")
    assert list(rows) == [
        ("203.0.113.9", "e1", "signature", 1, "refused"),
        ("203.0.113.9", "e1", "too old", 1, "refused"),
        ("203.0.113.9", "e2", "signature", 1, "refused"),
        ("198.51.100.1", "e1", "signature", 1, "refused"),
        ("203.0.113.9", "e1", "signature", 49, "refused"),  # told by the next refusal, whosever it is
    ]


def test_refusals_are_counted_by_network_when_the_caller_has_many_ipv6_addresses(db):
    for number in range(5):
        with bind(address=f"2001:db8::{number}"):
            audit.record_refusal("webhook.rejected", reason="signature")

    assert AuditLog.objects.count() == 1


def test_what_waits_is_written_when_the_process_ends(db):
    with bind(actor=CLIENT):
        audit.record_read("auditlog.listed")
        audit.record_read("auditlog.listed")
        audit.record_read("auditlog.listed")

    assert audit.write_overdue(everything=True) == 1
    assert list(AuditLog.objects.order_by("id").values_list("actor_label", "count")) == [("CRM", 1), ("CRM", 2)]
