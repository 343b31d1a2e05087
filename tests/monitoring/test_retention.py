"""Rule U9: old entries leave by a signed purge, after which the rest is still proven."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.utils import timezone

from clawdbot_site.settings import env as environment
from monitoring import audit, entries, folders, retention, sealer, signing, sinks, triggers, verifier, verifying
from monitoring.models import Alert, AuditCheckpoint, AuditLog, AuditSeal

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def copies(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    monkeypatch.setattr(sinks, "_newest_sent", {})
    monkeypatch.setattr(retention, "BATCH", 3)
    return tmp_path / "sink"


def write(number: int, age_days: int) -> None:
    """So many entries of that age, sealed, signed and copied."""
    at = timezone.now() - timedelta(days=age_days)
    for _ in range(number):
        AuditLog(action="bot.changed", actor_kind="system", created_at=at).save()
    sealer.seal_waiting()
    sealer.sign()
    sinks.copy_all()


def finish() -> None:
    sealer.seal_waiting()
    sealer.sign()
    sinks.copy_all()


@pytest.mark.rule("U9")
def test_old_entries_leave_and_the_rest_verifies():
    write(7, age_days=500)
    write(4, age_days=10)

    done = retention.purge_if_due()
    finish()

    assert done
    assert (done.through, done.rows) == (7, 7)
    assert AuditLog.objects.filter(action="bot.changed").count() == 4
    assert AuditSeal.objects.order_by("sequence").first().sequence == 8  # type: ignore[union-attr]
    purged = AuditLog.objects.get(action="auditlog.purged")
    assert (purged.changes["through"], purged.changes["entries"]) == (7, 7)
    statement = json.loads(AuditCheckpoint.objects.get(kind="purge").statement)
    assert (statement["purged_through"], statement["purged_hash"]) == (7, done.hash)
    report = verifying.verify()
    assert (report.is_good, report.rows) == (True, 5), report
    assert triggers.all_missing(connection) == []


@pytest.mark.rule("U9")
def test_a_second_purge_goes_on_from_the_first():
    write(3, age_days=500)
    write(3, age_days=450)
    write(2, age_days=1)
    retention.purge(timezone.now() - timedelta(days=480))
    finish()
    retention.purge(timezone.now() - timedelta(days=400))
    finish()

    report = verifying.verify()
    assert report.is_good, report
    assert AuditSeal.objects.order_by("sequence").first().sequence == 7  # type: ignore[union-attr]


@pytest.mark.rule("U6", "U9")
def test_a_row_put_back_among_the_purged_ones_is_named():
    """Its seal bears the hash that the purge signed, so that the chain behind it fits."""
    write(4, age_days=500)
    write(2, age_days=1)
    done = retention.purge_if_due()
    assert done
    finish()
    forged, columns = "01900000-0000-7000-8000-000000000001", ", ".join([*verifier.COLUMNS[1:], "mark"])
    with triggers.lifted(connection), connection.cursor() as cursor:
        copied = (
            f"INSERT INTO monitoring_auditlog (id, {columns}) SELECT %s, {columns} FROM monitoring_auditlog LIMIT 1"
        )
        cursor.execute(copied, [entries.database_id(forged)])
        sealed = "INSERT INTO monitoring_auditseal (sequence, entry_id, state, hash, mark) VALUES (%s, %s, 0, %s, 'x')"
        cursor.execute(sealed, [done.through, entries.database_id(forged), done.hash])
        cursor.execute("DELETE FROM monitoring_auditwaiting")

    bad = verifying.verify().first_bad
    assert bad
    assert (bad.sequence, bad.entry_id) == (done.through, forged)


def test_nothing_leaves_when_nothing_is_old():
    write(3, age_days=399)

    assert retention.purge_if_due() is None
    assert not AuditCheckpoint.objects.filter(kind="purge").exists()


def test_a_purge_that_was_stopped_verifies_and_is_finished_later(monkeypatch):
    write(8, age_days=500)
    write(2, age_days=1)
    delete = retention._delete_batch
    monkeypatch.setattr(retention, "_delete_batch", lambda through: 0)
    retention.purge_if_due()
    delete(8)
    finish()
    assert AuditSeal.objects.order_by("sequence").first().sequence == 4  # type: ignore[union-attr]
    report = verifying.verify()
    assert report.is_good, report

    monkeypatch.setattr(retention, "_delete_batch", delete)
    retention.purge_if_due()
    assert AuditSeal.objects.order_by("sequence").first().sequence == 9  # type: ignore[union-attr]
    assert verifying.verify().is_good


def test_a_purge_without_a_signature_is_tampering():
    write(6, age_days=500)
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM monitoring_auditlog WHERE id IN (SELECT entry_id FROM monitoring_auditseal WHERE sequence < 4)"
        )
        cursor.execute("DELETE FROM monitoring_auditseal WHERE sequence < 4")

    bad = verifying.verify().first_bad
    assert bad
    assert (bad.sequence, bad.text) == (1, "the seals 1 to 3 are gone without a purge")


def test_more_than_was_purged_is_tampering():
    write(6, age_days=500)
    write(4, age_days=1)
    retention.purge_if_due()
    finish()
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute("DELETE FROM monitoring_auditseal WHERE sequence = 7")

    bad = verifying.verify().first_bad
    assert bad
    assert bad.sequence == 7


def test_an_export_after_a_purge_proves_itself(tmp_path):
    write(6, age_days=500)
    write(4, age_days=1)
    retention.purge_if_due()
    folders.write(tmp_path / "export", "jsonl")

    walk, problems = verifier.verify_folder(tmp_path / "export", signing.signer().fingerprint, [])

    assert (walk.first_bad, problems) == (None, [])


def test_a_purge_that_the_database_refuses_becomes_an_alert(monkeypatch):
    write(3, age_days=500)
    write(3, age_days=1)

    def refuse(*args: Any) -> int:
        raise DatabaseError("must be owner of table monitoring_auditlog\nLINE 1")

    monkeypatch.setattr(retention, "_delete_batch", refuse)
    assert retention.purge_if_due() is None

    alert = Alert.objects.open().get(rule="audit.purge")
    assert "DATABASE_OWNER_URL" in alert.summary


@pytest.mark.rule("U9")
def test_a_retention_below_the_floor_stops_the_start(monkeypatch):
    monkeypatch.setenv("AUDIT_RETENTION_DAYS", "179")

    with pytest.raises(ImproperlyConfigured, match="at least 180"):
        environment.audit_retention_days()


def test_the_purge_is_audited_in_the_transaction_of_its_statement(monkeypatch):
    write(3, age_days=500)
    write(3, age_days=1)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the log is full")

    monkeypatch.setattr(audit, "record", fail)
    with pytest.raises(RuntimeError):
        retention.purge_if_due()

    assert not AuditCheckpoint.objects.filter(kind="purge").exists()
    assert AuditLog.objects.count() == 6
