from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import alerts, audit, sealer, signing, triggers
from monitoring.context import Actor, bind
from monitoring.models import AuditLog

LIST = "/admin/monitoring/auditlog/"
GROUPS = "/audited/auth/group/"


def entries(prefix: str = "group.") -> list[tuple[str, Any]]:
    """(action, changes) of what was written about groups, oldest first."""
    rows = AuditLog.objects.filter(action__startswith=prefix).order_by("id")
    return [(entry.action, entry.changes) for entry in rows]


def changed(before: Any, after: Any) -> dict[str, Any]:
    return {"before": before, "after": after}


def test_an_object_is_recorded_when_it_is_made_in_the_admin(browser, owner):
    permission = Permission.objects.get(codename="view_auditlog")

    browser.post(f"{GROUPS}add/", {"name": "auditors", "permissions": [permission.pk]})

    group = Group.objects.get(name="auditors")
    expected = {"id": group.pk, "name": "auditors", "permissions": [str(permission)]}
    assert entries() == [("group.created", {name: changed(None, value) for name, value in expected.items()})]
    entry = AuditLog.objects.get(action="group.created")
    assert (entry.actor_kind, entry.actor_id, entry.address) == ("user", str(owner.pk), "127.0.0.1")
    assert (entry.target_type, entry.target_id, entry.target_label) == ("auth.group", str(group.pk), "auditors")
    assert len(entry.request_id) == 32


def test_before_and_after_are_recorded_when_it_is_changed_in_the_admin(browser):
    group = Group.objects.create(name="old")
    permission = Permission.objects.get(codename="view_auditlog")

    browser.post(f"{GROUPS}{group.pk}/change/", {"name": "new", "permissions": [permission.pk]})

    assert entries() == [
        ("group.changed", {"name": changed("old", "new"), "permissions": changed([], [str(permission)])})
    ]


def test_nothing_is_recorded_when_a_form_is_refused(browser):
    group = Group.objects.create(name="old")

    browser.post(f"{GROUPS}{group.pk}/change/", {"name": ""})

    assert entries() == []


def test_rows_are_recorded_when_the_list_is_edited(browser):
    first, second = Group.objects.create(name="one"), Group.objects.create(name="two")
    rows = {"form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 2, "form-MIN_NUM_FORMS": 0, "form-MAX_NUM_FORMS": 9}
    for number, group in enumerate((second, first)):
        rows |= {f"form-{number}-id": group.pk, f"form-{number}-name": group.name}

    browser.post(GROUPS, {**rows, "form-0-name": "zwei", "_save": "Save"})

    assert entries() == [("group.changed", {"name": changed("two", "zwei")})]


def test_the_whole_object_is_recorded_when_it_is_deleted(browser):
    group = Group.objects.create(name="old")

    browser.post(f"{GROUPS}{group.pk}/delete/", {"post": "yes"})

    assert entries()[0][1]["name"] == changed("old", None)
    assert Group.objects.count() == 0


def test_each_object_is_recorded_when_a_selection_is_deleted(browser):
    keys = [Group.objects.create(name=name).pk for name in ("one", "two", "kept")]

    browser.post(GROUPS, {"action": "delete_selected", "_selected_action": keys[:2], "post": "yes"})

    assert [action for action, _ in entries()] == ["group.deleted"] * 2
    assert list(Group.objects.values_list("name", flat=True)) == ["kept"]


def test_action_and_effects_are_recorded_when_an_action_runs_on_a_selection(browser):
    group = Group.objects.create(name="quiet")

    browser.post(GROUPS, {"action": "shout", "_selected_action": [group.pk]})

    assert entries() == [
        ("group.action", {"action": "shout", "objects": [str(group.pk)], "count": 1}),
        ("group.changed", {"name": changed("quiet", "QUIET")}),
    ]


@pytest.mark.rule("U3")
def test_neither_change_nor_entry_stays_when_an_action_breaks(browser):
    group = Group.objects.create(name="whole")
    browser.raise_request_exception = False

    assert browser.post(GROUPS, {"action": "fail", "_selected_action": [group.pk]}).status_code == 500
    assert entries() == []
    assert Group.objects.get().name == "whole"


@pytest.mark.parametrize("way", ["add", "change", "delete"])
@pytest.mark.rule("U3")
def test_no_change_happens_when_its_entry_cannot_be_written(browser, monkeypatch, way):
    group = Group.objects.create(name="old")
    browser.raise_request_exception = False

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the log is full")

    monkeypatch.setattr(AuditLog, "save", fail)
    address = f"{GROUPS}add/" if way == "add" else f"{GROUPS}{group.pk}/{way}/"

    assert browser.post(address, {"name": "new", "post": "yes"}).status_code == 500
    assert list(Group.objects.values_list("name", flat=True)) == ["old"]


# -- the log's own pages --


def test_the_list_shows_and_finds_entries_when_an_auditor_looks(browser):
    audit.record("bot.created", target_label="weather bot")
    audit.record("bot.deleted", target_label="old bot", outcome="refused")

    assert "weather bot" in browser.get(LIST).text
    assert "weather bot" not in browser.get(LIST, {"outcome__exact": "refused"}).text
    assert "old bot" not in browser.get(LIST, {"q": "weather"}).text


def test_the_page_of_an_entry_shows_changes_as_a_table_without_markup_of_theirs(browser):
    audit.record("bot.changed", changes={"name": changed("<b>old</b>", "new"), "count": 3, "tags": changed(["x"], [])})

    entry = AuditLog.objects.get(action="bot.changed")
    page = browser.get(f"{LIST}{entry.pk}/change/").text

    assert "&lt;b&gt;old&lt;/b&gt;" in page
    assert "<b>old</b>" not in page


def test_nobody_adds_changes_or_deletes_when_it_is_the_audit_log(browser):
    audit.record("bot.created")
    entry = AuditLog.objects.get(action="bot.created")

    answers = [
        browser.post(f"{LIST}add/", {}).status_code,
        browser.post(f"{LIST}{entry.pk}/change/", {"action": "x.y"}).status_code,
        browser.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code,
        browser.post(LIST, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}).status_code,
    ]

    assert answers[:3] == [403, 403, 403]
    assert AuditLog.objects.get(action="bot.created") == entry


@pytest.mark.parametrize("page", ["", "proof/", "export-csv/", "export-jsonl/"])
def test_the_log_is_closed_when_a_person_lacks_the_permission(db, page):
    person = get_user_model().objects.create_user("eve", "eve@example.com", "x", is_staff=True)
    browser = Client()
    browser.force_login(person)

    assert browser.get(LIST + page).status_code == 403
    entry = AuditLog.objects.get(outcome="refused")
    assert (entry.action, entry.outcome, entry.actor_label) == ("access.refused", "refused", "eve")

    person.user_permissions.add(Permission.objects.get(codename="view_auditlog"))
    assert browser.get(LIST + page).status_code == 200


@pytest.mark.rule("U8")
@pytest.mark.rule("U1")
def test_the_export_takes_what_the_list_shows_and_is_recorded(browser):
    audit.record("bot.created", target_label="weather bot")
    audit.record("bot.deleted", target_label="=cmd|'/c calc'!A1", outcome="refused")
    button = f"{LIST}export-csv/?outcome__exact=refused"

    assert button in browser.get(LIST, {"outcome__exact": "refused", "p": "1"}).text
    answer = browser.get(button)
    text = answer.getvalue().decode()

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "weather bot" not in text
    assert "\"'=cmd|'/c calc'!A1\"" in text
    assert AuditLog.objects.get(action="auditlog.exported").changes["entries"]["after"] == 1


def test_the_digest_of_an_exported_file_is_in_the_log(browser, owner):
    audit.record("bot.created")

    content = browser.get(f"{LIST}export-jsonl/").getvalue()

    ended = AuditLog.objects.get(action="auditlog.export_ended")
    assert ended.changes["sha256"]["after"] == hashlib.sha256(content).hexdigest()
    assert (ended.actor_id, ended.address) == (str(owner.pk), "127.0.0.1")


def test_filters_choose_entries_when_an_auditor_looks(browser):
    with bind(actor=Actor("client", "7", "CRM"), address="203.0.113.9"):
        audit.record("bot.created", target_label="weather bot")
    audit.record("bot.deleted", target_label="old bot", outcome="refused")
    today = timezone.localdate()

    def shown(**filters: Any) -> set[str]:
        page = browser.get(LIST, filters).text
        return {name for name in ("weather bot", "old bot") if name in page}

    both = {"weather bot", "old bot"}
    assert shown(action="bot.") == both
    assert shown(action="bot.created") == {"weather bot"}
    assert shown(actor="CRM") == shown(target="weather bot") == shown(address="203.0.113.9") == {"weather bot"}
    assert shown(since=today, until=today) == both
    assert shown(since=today + timedelta(days=1)) == shown(until=today - timedelta(days=1)) == set()
    assert browser.get(LIST, {"since": "nonsense"}).status_code == 302


def test_the_history_of_an_object_is_what_the_log_tells_of_it(browser):
    group, other = Group.objects.create(name="one"), Group.objects.create(name="two")
    audit.record_created(group)
    audit.record_created(other)

    page = browser.get(f"/admin/auth/group/{group.pk}/history/", follow=True)

    assert page.redirect_chain[0][0] == f"{LIST}?target=auth.group%3A{group.pk}"
    assert [entry.target_id for entry in page.context["cl"].result_list] == [str(group.pk)]
    assert f"/admin/auth/group/{group.pk}/history/" in browser.get(f"/admin/auth/group/{group.pk}/change/").text


def test_the_history_is_closed_when_a_person_may_not_read_the_log(db):
    group = Group.objects.create(name="one")
    person = get_user_model().objects.create_user("eve", "eve@example.com", "x", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_group"))
    browser = Client()
    browser.force_login(person)

    assert browser.get(f"/admin/auth/group/{group.pk}/history/").status_code == 403
    assert "/history/" not in browser.get(f"/admin/auth/group/{group.pk}/change/").text


def test_long_texts_are_compared_line_by_line(browser):
    audit.record("bot.changed", changes={"prompt": changed("same\n<old>\nend", "same\nnew\nend")})
    entry = AuditLog.objects.get(action="bot.changed")

    page = browser.get(f"{LIST}{entry.pk}/change/").text

    assert '<del class="cb-del">&lt;old&gt;</del>' in page
    assert '<ins class="cb-ins">new</ins>' in page
    assert '<del class="cb-del">same' not in page


def test_an_auditor_verifies_by_a_button(browser, settings, tmp_path):
    settings.AUDIT_SINKS = [f"file:{tmp_path}"]
    audit.record("bot.created")
    sealer.run()

    page = browser.get(f"{LIST}proof/")
    assert f"{LIST}proof/" in browser.get(LIST).text
    assert signing.grouped(signing.signer().fingerprint) in page.text

    assert "The audit log is whole." in browser.post(f"{LIST}proof/").text
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute("UPDATE monitoring_auditlog SET actor_label = 'eve' WHERE action = 'bot.created'")
    said = browser.post(f"{LIST}proof/").text

    assert "The audit log was tampered with." in said
    assert f"First bad row: sequence 2 {AuditLog.objects.get(action='bot.created').pk}" in said
    outcomes = AuditLog.objects.filter(action="auditlog.verified").order_by("id").values_list("outcome", "actor_label")
    assert list(outcomes) == [("success", "olga"), ("failure", "olga")]


def test_an_export_returns_to_the_list_when_its_filter_is_nonsense(browser):
    assert browser.get(f"{LIST}export-csv/", {"created_at__gte": "nonsense"}).status_code == 302


@pytest.mark.rule("U1")
def test_reading_is_recorded_once_a_minute_when_somebody_pages_through(browser):
    for _ in range(3):
        browser.get(LIST)

    rows = AuditLog.objects.filter(action__startswith="auditlog.").values_list("action", "actor_label", "count")
    assert list(rows) == [("auditlog.listed", "olga", 1)]


@pytest.mark.parametrize("address", [LIST, "/admin/monitoring/alert/"])
def test_the_list_takes_as_many_queries_when_there_are_more_rows(browser, address):
    browser.get(address)  # content types, the entry of reading

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(address).status_code == 200
        return len(captured)

    audit.record("bot.created")
    alerts.open_alert("rule", "one")
    few = queries()
    for number in range(2):
        audit.record("bot.created", target_label=str(number))
        alerts.open_alert("rule", "more", subject=str(number))

    assert queries() == few


def test_alerts_are_read_only_when_shown(browser):
    alert = alerts.open_alert("disk", "The disk is nearly full.")
    assert alert

    assert "The disk is nearly full." in browser.get("/admin/monitoring/alert/").text
    assert browser.get(f"/admin/monitoring/alert/{alert.pk}/change/").status_code == 200
    assert browser.post(f"/admin/monitoring/alert/{alert.pk}/change/", {"rule": "x"}).status_code == 403
