"""Database triggers that keep a table append-only: UPDATE, DELETE, TRUNCATE and INSERT OR REPLACE are refused.

For migrations (``install``, ``uninstall``), purges by the owner role (``lifted``) and the doctor (``missing``).
A refused statement raises ``django.db.IntegrityError`` on both databases.

SQLite rebuilds a table to alter it and loses its triggers on the way: a later migration that alters an append-only
table must end with ``install`` again. A test looks for missing triggers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

AUDIT_TABLE = "monitoring_auditlog"


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
        "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id"
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


def install(editor: Editor, table: str = AUDIT_TABLE) -> None:
    """Make the triggers of an append-only table. ``table`` is a name from our own code, with the key column ``id``."""
    if editor.connection.vendor == "postgresql":
        editor.execute(POSTGRESQL_FUNCTION, None)  # None: its % is no placeholder
    for name, body in _triggers(editor.connection, table).items():
        editor.execute(f"CREATE TRIGGER {name} {body}")


def uninstall(editor: Editor, table: str = AUDIT_TABLE) -> None:
    where = f" ON {table}" if editor.connection.vendor == "postgresql" else ""
    for name in _triggers(editor.connection, table):
        editor.execute(f"DROP TRIGGER IF EXISTS {name}{where}")


def missing(connection: BaseDatabaseWrapper, table: str = AUDIT_TABLE) -> list[str]:
    """Return the names of triggers that are gone or switched off."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s"
    if connection.vendor == "postgresql":
        sql = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgenabled <> 'D'"
    with connection.cursor() as cursor:
        cursor.execute(sql, [table])
        found = {row[0] for row in cursor.fetchall()}
    return [name for name in _triggers(connection, table) if name not in found]


@contextmanager
def lifted(connection: BaseDatabaseWrapper, table: str = AUDIT_TABLE) -> Iterator[None]:
    """Lift the triggers for one transaction: for purges and for the flush between tests. Needs the table's owner."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
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
    bodies = POSTGRESQL if connection.vendor == "postgresql" else SQLITE
    return {name.format(table=table): body.format(table=table) for name, body in bodies.items()}
