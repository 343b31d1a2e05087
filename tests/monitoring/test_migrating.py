"""Migrations beside a running site, on PostgreSQL. The whole story is tests/chaos/test_upgrade.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management.base import CommandError
from django.db import connection, migrations, transaction
from django.db.migrations.state import ProjectState

from monitoring import migrating

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer"),
]
BOTS = "bots_bot"
MESSAGES = "bots_message"


@pytest.fixture
def site() -> Iterator[psycopg.Connection]:
    """A connection of a process that runs, in a transaction."""
    with psycopg.connect(**{**connection.get_connection_params(), "autocommit": False}) as made:
        yield made


def lock(site: psycopg.Connection, table: str) -> None:
    site.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")


def applied(change: migrations.RunPython) -> None:
    step = type("Migration", (migrations.Migration,), {"operations": [change]})("0999_of_a_test", "monitoring")
    migrating.PatientExecutor(connection).apply_migration(ProjectState(), step)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE name = '0999_of_a_test'")


def test_a_migration_waits_for_a_site_that_wants_another_table_next(site: psycopg.Connection) -> None:
    """Without room made for it, it would hold bots and wait for messages, and the site the other way round."""
    holds, changed = threading.Event(), list[bool]()

    def at_work() -> None:
        lock(site, MESSAGES)
        holds.set()
        time.sleep(1.0)  # the migration is on its way by then
        lock(site, BOTS)
        site.commit()

    def change(_apps: object, _editor: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {BOTS}")
            cursor.execute(f"LOCK TABLE {MESSAGES}")
        changed.append(True)

    thread = threading.Thread(target=at_work)
    thread.start()
    assert holds.wait(10)
    applied(migrations.RunPython(change))
    thread.join()
    assert changed == [True]


def test_what_could_not_be_locked_locks_nothing(site: psycopg.Connection) -> None:
    lock(site, MESSAGES)
    with transaction.atomic():
        assert not migrating._has_locked(connection)
        lock(site, BOTS)  # nobody is in the way
    site.rollback()
    with transaction.atomic():
        assert migrating._has_locked(connection)


def test_who_never_gets_room_is_told_what_to_do(site: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "PATIENCE_S", 0.1)
    lock(site, MESSAGES)
    with pytest.raises(CommandError, match="Stop the site and its workers"):
        applied(migrations.RunPython(migrations.RunPython.noop))
    site.rollback()
