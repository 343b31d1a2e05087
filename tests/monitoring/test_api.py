from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.test import AsyncRequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from monitoring import alerts, api, audit, exports
from monitoring.context import Actor, bind
from monitoring.models import AuditLog

LOGS = "/api/v1/audit-logs/"


def listed(rest: Any, **filters: Any) -> list[str]:
    answer = rest.get(LOGS, filters)
    assert answer.status_code == 200, answer.content
    return [entry["action"] for entry in answer.json()["results"] if entry["action"] != "auditlog.listed"]


@pytest.mark.rule("U3")
@pytest.mark.parametrize(("method", "status"), [("post", 500), ("patch", 500), ("delete", 500)])
def test_no_change_by_rest_stays_when_the_database_takes_no_entry(rest, no_groups, method, status):
    """The insert itself fails: the log's table is not there."""
    group = Group.objects.create(name="old")
    rest.raise_request_exception = False
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE monitoring_auditlog RENAME TO somewhere_else")

    answer = getattr(rest, method)(
        f"/api/v1/groups/{group.pk if method != 'post' else ''}/".replace("//", "/"), {"name": "new"}
    )

    assert answer.status_code == status
    assert list(Group.objects.values_list("name", flat=True)) == ["old"]


@pytest.mark.rule("U1")
def test_changes_by_rest_are_recorded_when_made(rest, owner):
    made = rest.post("/api/v1/groups/", {"name": "old"}).json()
    rest.patch(f"/api/v1/groups/{made['id']}/", {"name": "new"})
    rest.delete(f"/api/v1/groups/{made['id']}/")

    rows = AuditLog.objects.filter(action__startswith="group.").order_by("id")
    assert [(entry.action, entry.actor_label, entry.target_id) for entry in rows] == [
        (f"group.{what}", "olga", str(made["id"])) for what in ("created", "changed", "deleted")
    ]
    assert rows[1].changes == {"name": {"before": "old", "after": "new"}}
    assert rows[2].changes["name"] == {"before": "new", "after": None}


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_no_change_happens_by_rest_when_its_entry_cannot_be_written(rest, monkeypatch, method):
    group = Group.objects.create(name="old")
    rest.raise_request_exception = False

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the log is full")

    monkeypatch.setattr(AuditLog, "save", fail)
    address = "/api/v1/groups/" if method == "post" else f"/api/v1/groups/{group.pk}/"

    assert getattr(rest, method)(address, {"name": "new"}).status_code == 500
    assert list(Group.objects.values_list("name", flat=True)) == ["old"]


def test_nothing_is_recorded_by_rest_when_values_are_refused(rest):
    assert rest.post("/api/v1/groups/", {"name": ""}).status_code == 400
    assert AuditLog.objects.count() == 0


def test_entries_are_shown_with_every_field_newest_first(rest):
    audit.record("bot.created", changes={"name": {"before": None, "after": "x"}})
    audit.record("bot.deleted")

    newest, oldest = rest.get(LOGS).json()["results"][-2:]
    assert [newest["action"], oldest["action"]] == ["bot.deleted", "bot.created"]
    assert list(oldest) == list(exports.COLUMNS)
    assert oldest["changes"] == {"name": {"before": None, "after": "x"}}
    assert rest.get(f"{LOGS}{oldest['id']}/").json() == oldest


def test_filters_choose_entries_when_given(rest):
    with bind(actor=Actor("client", "7", "CRM"), address="203.0.113.9", request_id="request-1"):
        audit.record("bot.created", target_label="weather")
    audit.record("bot.deleted", outcome="failure")
    audit.record("endpoint.created")
    now = timezone.now()

    assert listed(rest, action="bot.created") == ["bot.created"]
    assert listed(rest, action="bot.") == ["bot.deleted", "bot.created"]
    for actor in ("7", "CRM", "client"):
        assert listed(rest, actor=actor) == ["bot.created"]
    assert listed(rest, target="weather") == ["bot.created"]
    assert listed(rest, outcome="failure") == ["bot.deleted"]
    assert listed(rest, address="203.0.113.9", request_id="request-1") == ["bot.created"]
    assert listed(rest, since=(now + timedelta(hours=1)).isoformat()) == []
    assert len(listed(rest, since=(now - timedelta(hours=1)).isoformat(), until=now.isoformat())) == 3


@pytest.mark.parametrize("filters", [{"outcome": "x"}, {"since": "yesterday"}, {"format": "xml"}])
def test_filters_are_refused_by_name_when_nonsense(rest, filters):
    answer = rest.get(LOGS, filters)

    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == list(filters)


@pytest.mark.parametrize("method", ["put", "patch", "delete", "post"])
@pytest.mark.parametrize("resource", ["audit-logs", "alerts"])
def test_entries_cannot_be_changed_when_asked_by_rest(rest, method, resource):
    audit.record("bot.created")
    entry = AuditLog.objects.get()

    assert getattr(rest, method)(f"/api/v1/{resource}/", {}).status_code == 405
    assert getattr(rest, method)(f"/api/v1/{resource}/{entry.pk}/", {}).status_code == 405
    assert AuditLog.objects.get(action="bot.created").action == "bot.created"


def test_jsonl_holds_every_entry_when_exported(rest):
    for number in range(exports.CHUNK_ROWS + 2):
        audit.record("bot.created", target_label=str(number))

    answer = rest.get(LOGS, {"format": "jsonl", "action": "bot.created"})
    rows = [json.loads(line) for line in answer.getvalue().decode().splitlines()]

    assert answer["Content-Type"] == "application/x-ndjson"
    assert [row["target_label"] for row in rows] == [str(n) for n in reversed(range(exports.CHUNK_ROWS + 2))]
    assert list(rows[0]) == list(exports.COLUMNS)
    exported = AuditLog.objects.get(action="auditlog.exported")
    assert (exported.actor_label, exported.changes["entries"]["after"]) == ("olga", exports.CHUNK_ROWS + 2)


def test_csv_reads_back_when_exported(rest):
    audit.record("bot.created", target_label='a "b"\n,c', changes={"name": {"before": None, "after": "名字"}})

    text = rest.get(LOGS, {"format": "csv"}).getvalue().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))

    created = [row for row in rows if row["action"] == "bot.created"]
    assert created[0]["target_label"] == 'a "b"\\x0a,c'
    assert json.loads(created[0]["changes"]) == {"name": {"before": None, "after": "名字"}}


async def test_an_export_streams_when_it_is_asked_for_by_asgi(transactional_db):
    await sync_to_async(audit.record)("bot.created")
    request = AsyncRequestFactory().get(LOGS)

    answer = await sync_to_async(exports.response)(request, AuditLog.objects.filter(action="bot.created"), "jsonl")
    chunks = [chunk async for chunk in answer]
    await sync_to_async(connections.close_all)()  # those of the worker thread

    assert [json.loads(chunk)["action"] for chunk in chunks] == ["bot.created"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "＝1", "|x", "%x"])
def test_a_cell_starts_no_formula_when_exported(text):
    shown = exports.cell(text)

    assert shown.startswith(("'", "\\x"))


def test_alerts_are_listed_when_open_or_past(rest):
    alerts.open_alert("disk", "full")
    alerts.open_alert("queue", "long")
    alerts.close_alert("queue")

    def rules(**filters: str) -> list[str]:
        return [alert["rule"] for alert in rest.get("/api/v1/alerts/", filters).json()["results"]]

    assert rules() == ["queue", "disk"]
    assert rules(is_open="true") == ["disk"]
    assert rules(is_open="false") == ["queue"]


@pytest.mark.parametrize("resource", ["audit-logs", "alerts"])
def test_a_list_takes_as_many_queries_when_there_are_more_rows(rest, resource):
    rest.get(f"/api/v1/{resource}/")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert rest.get(f"/api/v1/{resource}/").status_code == 200
        return len(captured)

    audit.record("bot.created")
    alerts.open_alert("rule", "one")
    few = queries()
    for number in range(2):
        audit.record("bot.created")
        alerts.open_alert("rule", "more", subject=str(number))

    assert queries() == few


def test_views_name_their_scope():
    assert api.AuditLogViewSet.required_scopes == {"read": "audit:read"}
    assert api.AlertViewSet.required_scopes == {"read": "audit:read", "write": "bots:write"}


def test_the_schema_describes_the_log_and_its_downloads(db):
    schema = SchemaGenerator(urlconf="tests.monitoring.urls").get_schema(request=None, public=True)

    operation = schema["paths"][LOGS]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"action", "actor", "target", "outcome", "since", "until", "format"} <= names
    assert {"application/json", "text/csv", "application/x-ndjson"} == set(operation["responses"]["200"]["content"])
