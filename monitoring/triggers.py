"""Database triggers that keep tables append-only: UPDATE, DELETE, TRUNCATE and INSERT OR REPLACE are refused.

For migrations (``install``, ``uninstall``), purges by the owner role (``lifted``) and the doctor (``missing``).
A refused statement raises ``django.db.IntegrityError`` on both databases. One more trigger puts every new entry of the
log into the queue of those that wait for a seal, in the transaction of the entry (``install_queue``).

SQLite rebuilds a table to alter it and loses its triggers on the way: a later migration that alters an append-only
table must end with ``install`` again. A test looks for missing triggers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Protocol

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

AUDIT_TABLE: Final = "monitoring_auditlog"
QUEUE_TABLE: Final = "monitoring_auditwaiting"
# Append-only tables and their key columns.
TABLES: Final = {AUDIT_TABLE: "id", "monitoring_auditseal": "sequence", "monitoring_auditcheckpoint": "number"}


class Editor(Protocol):
    """What is needed of a migration's schema editor."""

    connection: BaseDatabaseWrapper

    def execute(self, sql: str, params: Any = ...) -> None: ...


# INSERT OR REPLACE deletes the old row past the delete trigger unless recursive_triggers is on, which is a setting of
# each connection. The insert trigger comes before the replacing, whatever the connection has set.
SQLITE = {
    "{table}_no_update": "BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    "{table}_no_delete": "BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    "{table}_no_replace": (
        "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}"
        " OR (rowid = NEW.rowid AND NEW.rowid <> -1)) BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    ),
}
POSTGRESQL = {
    "{table}_no_change": "BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION monitoring_append_only()",
    "{table}_no_truncate": "BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION monitoring_append_only()",
}
POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION monitoring_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""
QUEUE = {
    "sqlite": (
        f"CREATE TRIGGER {AUDIT_TABLE}_wait AFTER INSERT ON {AUDIT_TABLE}"  # noqa: S608  (our own names)  # nosec B608
        f" BEGIN INSERT INTO {QUEUE_TABLE} (entry_id) VALUES (NEW.id); END"
    ),
    "postgresql": (
        f"CREATE TRIGGER {AUDIT_TABLE}_wait AFTER INSERT ON {AUDIT_TABLE} REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION monitoring_audit_wait()"
    ),
}
QUEUE_FUNCTION = """
CREATE OR REPLACE FUNCTION monitoring_audit_wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO monitoring_auditwaiting (entry_id) SELECT id FROM added;
    RETURN NULL;
END $$
"""


def install(editor: Editor, table: str = AUDIT_TABLE) -> None:
    """Make the triggers of an append-only table, one of TABLES."""
    if editor.connection.vendor == "postgresql":
        editor.execute(POSTGRESQL_FUNCTION, None)  # None: its % is no placeholder
    for name, body in _triggers(editor.connection, table).items():
        editor.execute(f"CREATE TRIGGER {name} {body}")


def uninstall(editor: Editor, table: str = AUDIT_TABLE) -> None:
    where = f" ON {table}" if editor.connection.vendor == "postgresql" else ""
    for name in _triggers(editor.connection, table):
        editor.execute(f"DROP TRIGGER IF EXISTS {name}{where}")


def install_queue(editor: Editor) -> None:
    """From now on every new entry waits for its seal."""
    if editor.connection.vendor == "postgresql":
        editor.execute(QUEUE_FUNCTION, None)
    editor.execute(QUEUE[editor.connection.vendor])


def uninstall_queue(editor: Editor) -> None:
    where = f" ON {AUDIT_TABLE}" if editor.connection.vendor == "postgresql" else ""
    editor.execute(f"DROP TRIGGER IF EXISTS {AUDIT_TABLE}_wait{where}")


def missing(connection: BaseDatabaseWrapper, table: str = AUDIT_TABLE) -> list[str]:
    """Return the names of a table's triggers that are gone or switched off."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s"
    if connection.vendor == "postgresql":
        sql = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgenabled <> 'D'"
    with connection.cursor() as cursor:
        cursor.execute(sql, [table])
        found = {row[0] for row in cursor.fetchall()}
    wanted = [*_triggers(connection, table), *([f"{AUDIT_TABLE}_wait"] if table == AUDIT_TABLE else [])]
    return [name for name in wanted if name not in found]


def all_missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Of all append-only tables."""
    return [name for table in TABLES for name in missing(connection, table)]


@contextmanager
def lifted(connection: BaseDatabaseWrapper, *tables: str) -> Iterator[None]:
    """Lift the triggers (of all append-only tables) for one transaction: for purges, and the flush between tests.

    Needs the tables' owner.
    """
    with transaction.atomic(using=connection.alias), ExitStack() as stack:
        for table in tables or TABLES:
            stack.enter_context(_lifted(connection, table))
        yield


@contextmanager
def _lifted(connection: BaseDatabaseWrapper, table: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            yield
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        else:
            names = _triggers(connection, table)
            for name in names:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
            yield
            for name, body in names.items():
                cursor.execute(f"CREATE TRIGGER {name} {body}")


def _triggers(connection: BaseDatabaseWrapper, table: str) -> dict[str, str]:
    bodies, words = POSTGRESQL if connection.vendor == "postgresql" else SQLITE, {"table": table, "key": TABLES[table]}
    return {name.format(**words): body.format(**words) for name, body in bodies.items()}
