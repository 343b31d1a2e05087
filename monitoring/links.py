"""The chain read fast: each seal with its entry in canonical form, in order, by short statements.

For the verifier and for exports, which read millions.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.db import connection

from monitoring import entries
from monitoring.models import AuditSeal

CHUNK: Final = 1_000  # more would not stay in the processor's cache
Link = tuple[int, str, int, str, str, list[Any] | None]  # sequence, entry id, state, hash, mark, entry
SEALS: Final = AuditSeal._meta.db_table
SEAL_COLUMNS: Final = 5
BEGINNING: Final = -(2**63)  # below every number that somebody could give a seal


def chain(after: int = BEGINNING, through: int | None = None) -> Iterator[Link]:
    """Seals in order with their entries in canonical form (None: gone)."""
    read, uuid_text = entries.reader(), entries.uuid_text
    for rows in _chunks(after, through):
        for row in rows:
            if row[SEAL_COLUMNS] is None:
                yield row[0], uuid_text(row[1]), row[2], row[3], row[4], None
            else:
                entry = read(row[SEAL_COLUMNS:])
                yield row[0], entry[0], row[2], row[3], row[4], entry


def ends() -> tuple[int, int]:
    """The first and the last sequence that there are; zeros where there is none."""
    order = AuditSeal.objects.order_by("sequence").values_list("sequence", flat=True)
    return order.first() or 0, order.last() or 0


def _chunks(position: int, through: int | None) -> Iterator[list[Any]]:
    """Where a server works for us it reads the next rows, on a connection of its own, while the caller works on these.

    Not inside a transaction; nor on SQLite, where reading is our own work and two threads would only wait in turn.
    """
    if connection.in_atomic_block or connection.vendor == "sqlite":
        while rows := _rows_after(position, through):
            yield rows
            position = rows[-1][0]
        return
    with ThreadPoolExecutor(1, "audit-reader") as reader:
        try:
            following = reader.submit(_rows_after, position, through)
            while rows := following.result():
                following = reader.submit(_rows_after, rows[-1][0], through)
                yield rows
        finally:
            reader.submit(connection.close)


def _rows_after(sequence: int, through: int | None) -> list[Any]:
    where, given = "sequence > %s", [sequence]
    if through is not None:
        where, given = "sequence > %s AND sequence <= %s", [sequence, through]
    entry_id = "s.entry_id::text" if connection.vendor == "postgresql" else "s.entry_id"
    sql = (
        f"SELECT s.sequence, {entry_id}, s.state, s.hash, s.mark, {entries.columns('a')}"  # noqa: S608  (our own names)  # nosec B608
        f" FROM (SELECT * FROM {SEALS} WHERE {where} ORDER BY sequence LIMIT {CHUNK}) s"
        f" {entries.joined('a', 's.entry_id')} ORDER BY s.sequence"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return list(cursor.fetchall())
