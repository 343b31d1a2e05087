"""Entries read fast: raw rows of the log in the canonical form that seals cover, alike on both databases.

For the sealer, the verifier and exports, which read millions. A row is a list in the order of ``verifier.SEALED``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import connection

from monitoring import verifier
from monitoring.triggers import AUDIT_TABLE

_load: Final = json.JSONDecoder().raw_decode
CHANGES: Final = verifier.COLUMNS.index("changes")
# The time as text: PostgreSQL formats it faster than Python.
COLUMNS: Final = {
    "postgresql": {
        "id": "{0}.id::text",
        "created_at": "to_char({0}.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        "changes": "{0}.changes::text",
    },
    "sqlite": {"created_at": "{0}.created_at || ''"},  # an expression: Django would parse the column
}


def columns(alias: str) -> str:
    """The select list of an entry, in canonical order."""
    special = COLUMNS[connection.vendor]
    return ", ".join(special.get(name, "{0}." + name).format(alias) for name in verifier.SEALED)


def joined(alias: str, key: str) -> str:
    """A LEFT JOIN of the entry whose id is ``key``. PostgreSQL looks each one up: without statistics of a table that
    only just grew it would read all of it for every chunk."""
    if connection.vendor == "sqlite":
        return f"LEFT JOIN {AUDIT_TABLE} {alias} ON {alias}.id = {key}"
    one = f"SELECT * FROM {AUDIT_TABLE} one WHERE one.id = {key} LIMIT 1"  # noqa: S608  (our own names)  # nosec B608
    return f"LEFT JOIN LATERAL ({one}) {alias} ON true"


def reader() -> Callable[[Sequence[Any]], list[Any]]:
    """What makes canonical values of a raw row of ``columns``. Ask once, not for each row."""
    return _from_sqlite if connection.vendor == "sqlite" else _from_postgresql


def _from_postgresql(row: Sequence[Any]) -> list[Any]:
    found = list(row)
    text = found[CHANGES]
    if text == "{}":
        found[CHANGES] = {}
    else:
        found[CHANGES] = _parsed(text)
    return found


def _parsed(text: Any) -> Any:
    """What is no JSON was put there by somebody else: it stays as it is, no digest fits, and its row is named."""
    try:
        value, end = _load(text)
    except (ValueError, TypeError, RecursionError):
        return text
    return value if end == len(text) else text


def _from_sqlite(row: Sequence[Any]) -> list[Any]:
    found = _from_postgresql(row)
    at = found[1] or ""  # 2026-01-31 08:00:00[.123456], in UTC
    found[1] = f"{at[:10]}T{at[11:]}Z" if len(at) == 26 else f"{at[:10]}T{at[11:19]}.000000Z"
    found[0] = uuid_text(found[0])
    return found


def uuid_text(raw: Any) -> str:
    """Hex digits as SQLite has them, in the usual form."""
    text = str(raw)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" if len(text) == 32 else text


def database_id(entry_id: str) -> Any:
    """The reverse: an id as a parameter of raw SQL."""
    return entry_id.replace("-", "") if connection.vendor == "sqlite" else entry_id


def read(entry_id: str) -> list[Any] | None:
    """One entry, by its id in the usual form."""
    with connection.cursor() as cursor:
        sql = f"SELECT {columns('a')} FROM {AUDIT_TABLE} a WHERE a.id = %s"  # noqa: S608  (our own names)  # nosec B608
        cursor.execute(sql, [database_id(entry_id)])
        row = cursor.fetchone()
    return reader()(row) if row else None
