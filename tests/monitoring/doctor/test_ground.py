"""What doctor says of settings, database, disk, port and audit sinks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from monitoring.doctor import audit_log, database, machine
from monitoring.doctor import settings as of_settings
from monitoring.models import Alert, AuditSink


def levels(findings: Iterator[Any]) -> list[str]:
    return [one.level for one in findings]


# -- database --


@pytest.mark.django_db
def test_database_in_order_is_one_line_and_nothing_is_left_in_it() -> None:
    (found,) = database.check()

    assert (found.level, found.what.endswith("is reachable, migrated and writable.")) == ("ok", True)
    assert not Alert.objects.exists()


@pytest.mark.django_db
def test_migrations_that_wait_are_named() -> None:
    last = MigrationRecorder.Migration.objects.filter(app="monitoring").order_by("name").last()
    assert last
    last.delete()

    (found,) = database.check()

    assert (found.level, found.what) == ("failed", f"Migrations are not applied: monitoring.{last.name}.")


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="the test makes SQLite read-only")
def test_database_that_takes_no_changes_is_broken() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
        try:
            (found,) = database.check()
        finally:
            cursor.execute("PRAGMA query_only = OFF")

    assert (found.level, found.what) == (
        "failed",
        "The database takes no changes: attempt to write a readonly database",
    )


@pytest.mark.parametrize(("skew_s", "level"), [(0.4, "ok"), (-3.0, "warning"), (-61.0, "failed")])
def test_clocks_that_differ_are_told(skew_s: float, level: str) -> None:
    assert database.judged(skew_s, "the database", 2.0).level == level


# -- the machine --


def test_disk_tells_what_is_free_and_what_cannot_be_written(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR, settings.LOG_DIR = tmp_path, str(tmp_path / "nowhere")
    assert levels(machine.disk()) == ["ok", "failed"]

    settings.LOG_DIR = ""
    monkeypatch.setattr(machine, "LITTLE_BYTES", 2**63)
    assert levels(machine.disk()) == ["warning"]
    monkeypatch.setattr(machine, "TOO_LITTLE_BYTES", 2**63)
    assert levels(machine.disk()) == ["failed"]


@pytest.mark.parametrize(
    ("sinks", "level"),
    [
        ([], "warning"),
        (["file:/var/lib/clawdbot/audit"], "warning"),
        (["syslog:127.0.0.1:514"], "warning"),
        (["file:/x", "syslog:logs.example.com:514"], "ok"),
        (["https://logs.example.com/audit"], "ok"),
    ],
)
def test_audit_sinks_count_only_on_another_host(settings: Any, sinks: list[str], level: str) -> None:
    settings.AUDIT_SINKS = sinks

    assert levels(audit_log.places()) == [level]


class Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port(settings: Any) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        settings.HOST, settings.PORT = "127.0.0.1", server.server_address[1]
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_site_is_asked_on_its_port(port: int, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(machine.site()) == ["ok"]
    monkeypatch.setattr(Answers, "status", 404)
    assert levels(machine.site()) == ["failed"]


def test_site_that_is_down_is_broken_only_where_it_must_be(settings: Any) -> None:
    settings.HOST, settings.PORT = "127.0.0.1", 1
    assert levels(machine.site()) == ["failed"]
    settings.EMBEDDED = False
    assert levels(machine.site()) == ["warning"]


# -- settings --


def test_settings_in_order_are_one_line(settings: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    settings.DATA_DIR, settings.ENV_FILE = tmp_path, tmp_path / ".env"

    assert [one.what for one in of_settings.check()] == ["All settings are sound (embedded: one process)."]


def test_system_checks_debug_and_open_folders_are_told(settings: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    settings.DATA_DIR, settings.ENV_FILE, settings.DEBUG = tmp_path, tmp_path / ".env", True
    settings.METRICS_TOKEN = "short"

    assert [(one.level, one.what) for one in of_settings.check()] == [
        ("failed", "METRICS_TOKEN is too short to be a secret."),
        ("warning", "DEBUG is on: strangers see tracebacks."),
        ("warning", f"Every user of this machine may open {tmp_path}."),
    ]


# -- the audit log --


@pytest.mark.django_db
@pytest.mark.rule("U7", "U4")
def test_the_audit_logs_guards_sinks_and_receivers_are_looked_at(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUDIT_SINKS = ["syslog:log.example.com:514"]
    settings.AUDIT_FORWARD_TO = ["syslog+tcp:siem.example.com"]
    monkeypatch.setattr("monitoring.grants.excess", list)
    assert list(audit_log.check()) == []

    since = timezone.now()
    AuditSink.objects.create(name="syslog:log.example.com:514", failing_since=since, error="refused")
    AuditSink.objects.create(name="forward syslog+tcp:siem.example.com", failing_since=since, error="refused")
    with connection.cursor() as cursor:
        where = " ON monitoring_auditseal" if connection.vendor == "postgresql" else ""
        name = f"monitoring_auditseal_no_{'change' if connection.vendor == 'postgresql' else 'update'}"
        cursor.execute(f"DROP TRIGGER {name}{where}")

    assert levels(audit_log.check()) == ["failed", "warning", "warning"]
