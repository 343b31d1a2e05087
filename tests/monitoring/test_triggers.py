"""Each statement tried on the database that the settings give (rule U4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from monitoring import audit, sealer, triggers
from monitoring.models import AppendOnlyError, AuditCheckpoint, AuditLog, AuditSeal
from monitoring.triggers import AUDIT_TABLE

on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'")
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'")


@pytest.fixture
def entry(db: None) -> AuditLog:
    audit.record("bot.created", target_label="first")
    return AuditLog.objects.get()


def refused(sql: str, params: Any = None) -> None:
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)


def rows() -> list[tuple[str, str]]:
    return list(AuditLog.objects.values_list("action", "target_label"))


@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE {AUDIT_TABLE} SET action = 'x.y'",
        f"UPDATE {AUDIT_TABLE} SET action = action",
        f"DELETE FROM {AUDIT_TABLE}",
    ],
)
@pytest.mark.rule("U4")
def test_the_database_refuses_when_entries_are_changed_by_sql(entry, sql):
    refused(sql)

    assert rows() == [("bot.created", "first")]


COPY = f"{AUDIT_TABLE} SELECT * FROM {AUDIT_TABLE}"


@pytest.fixture(params=["ON", "OFF"])
def recursive_triggers(request: pytest.FixtureRequest, db: None) -> Iterator[None]:
    """A writer with a connection of its own may have the setting off."""
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA recursive_triggers").fetchone()[0]
        cursor.execute(f"PRAGMA recursive_triggers={request.param}")
        yield
        cursor.execute(f"PRAGMA recursive_triggers={before}")


@on_sqlite
@pytest.mark.usefixtures("recursive_triggers")
@pytest.mark.parametrize("sql", [f"INSERT OR REPLACE INTO {COPY}", f"REPLACE INTO {COPY}"])
@pytest.mark.rule("U4")
def test_sqlite_refuses_when_an_entry_is_replaced(entry, sql):
    refused(sql)

    assert rows() == [("bot.created", "first")]


@on_sqlite
@pytest.mark.usefixtures("recursive_triggers")
def test_sqlite_refuses_when_an_entry_is_replaced_by_its_hidden_row_number(entry):
    columns = ", ".join(str(field.column) for field in AuditLog._meta.concrete_fields if field.column != "id")
    refused(
        f"INSERT OR REPLACE INTO {AUDIT_TABLE} (rowid, id, {columns})"
        f" SELECT rowid, 'another', {columns} FROM {AUDIT_TABLE}"
    )

    assert rows() == [("bot.created", "first")]


@on_postgresql
@pytest.mark.parametrize(
    "sql",
    [
        f"TRUNCATE {AUDIT_TABLE}",
        f"TRUNCATE {AUDIT_TABLE} CASCADE",
        f"INSERT INTO {COPY} ON CONFLICT (id) DO UPDATE SET action = 'x.y'",
    ],
)
@pytest.mark.rule("U4")
def test_postgresql_refuses_when_entries_are_truncated_or_upserted(entry, sql):
    refused(sql)

    assert rows() == [("bot.created", "first")]


def test_a_further_entry_is_taken_when_triggers_stand(entry):
    audit.record("bot.deleted")

    assert rows() == [("bot.deleted", ""), ("bot.created", "first")]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda entry: entry.save(),
        lambda entry: entry.delete(),
        lambda entry: AuditLog(pk=entry.pk, action="x.y").save(force_update=True),
        lambda entry: AuditLog.objects.update(action="x.y"),
        lambda entry: AuditLog.objects.all().delete(),
        lambda entry: AuditLog.objects.filter(pk=entry.pk)._raw_delete("default"),
        lambda entry: AuditLog.objects.bulk_update([entry], ["action"]),
        lambda entry: AuditLog.objects.update_or_create(pk=entry.pk, defaults={"action": "x.y"}),
        lambda entry: AuditLog.objects.bulk_create(
            [entry], update_conflicts=True, update_fields=["action"], unique_fields=["id"]
        ),
        lambda entry: AuditLog._base_manager.update(action="x.y"),
    ],
)
@pytest.mark.rule("U10")
def test_the_orm_refuses_when_entries_are_changed(entry, attempt):
    with pytest.raises(AppendOnlyError):
        attempt(entry)

    assert rows() == [("bot.created", "first")]


def test_the_orm_refuses_when_an_entry_is_saved_under_a_used_key(entry):
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditLog(pk=entry.pk, action="x.y", actor_kind="system").save()

    assert rows() == [("bot.created", "first")]


@pytest.mark.parametrize("model", [AuditSeal, AuditCheckpoint])
@pytest.mark.parametrize(
    "attempt",
    [
        lambda rows: rows.update(sequence=9),
        lambda rows: rows.delete(),
        lambda rows: rows.bulk_update(list(rows), ["sequence"]),
        lambda rows: rows.first().save(),
        lambda rows: rows.first().delete(),
    ],
)
@pytest.mark.rule("U10")
def test_the_orm_refuses_when_seals_and_checkpoints_are_changed(entry, model, attempt):
    sealer.run()

    with pytest.raises(AppendOnlyError):
        attempt(model.objects.all())


@pytest.mark.parametrize("table", [table for table in triggers.TABLES if table != AUDIT_TABLE])
@pytest.mark.rule("U4")
def test_the_database_refuses_when_seals_and_checkpoints_are_changed(entry, table):
    sealer.run()

    refused(f"UPDATE {table} SET sequence = sequence")
    refused(f"DELETE FROM {table}")
    refused(f"TRUNCATE {table}" if connection.vendor == "postgresql" else f"REPLACE INTO {table} SELECT * FROM {table}")


def test_no_trigger_is_missing_when_migrated(db):
    assert triggers.missing(connection) == []


def test_triggers_stand_again_when_they_were_lifted(entry):
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {AUDIT_TABLE}")

    assert triggers.missing(connection) == []
    audit.record("bot.created", target_label="second")
    refused(f"DELETE FROM {AUDIT_TABLE}")


def test_triggers_stand_when_the_purge_under_them_fails(entry):
    def purge_and_fail() -> None:
        with triggers.lifted(connection), connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {AUDIT_TABLE}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        purge_and_fail()

    assert triggers.missing(connection) == []
    assert rows() == [("bot.created", "first")]


@pytest.mark.parametrize("table", triggers.TABLES)
@pytest.mark.rule("U4")
def test_every_append_only_table_has_its_triggers_when_migrated(db, table):
    assert triggers.missing(connection, table) == []


@pytest.mark.django_db(transaction=True)
def test_a_flush_between_tests_empties_the_log_and_keeps_the_triggers():
    audit.record("bot.created")

    call_command("flush", verbosity=0, interactive=False)

    assert rows() == []
    assert triggers.missing(connection) == []


@pytest.mark.django_db(transaction=True)
def test_triggers_come_and_go_when_migrated_back_and_forth():
    call_command("migrate", "monitoring", "0001", verbosity=0)
    gone = triggers.missing(connection)
    call_command("migrate", "monitoring", verbosity=0)

    each = triggers.SQLITE if connection.vendor == "sqlite" else triggers.POSTGRESQL
    assert len(gone) == len(each) + 1  # and the one that queues entries for the sealer
    assert triggers.missing(connection) == []
