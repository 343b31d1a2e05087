"""New questions -> rows, in the one statement of the product that is written by hand.

``bulk_create`` compiles every value of every row anew (0.35 ms a row, a quarter of what a callback costs) and does not
tell which rows are new. This statement does, so that a batch is one round trip and, without a transaction around it,
durable when it returns. Columns that no draft fills get their model's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from bots.drafts import Draft
from bots.models import Message

SAME = ("role", "text", "platform", "app_id", "external_id", "sender_id", "details")  # as in the draft, and in order
GIVEN = ("id", "conversation", "session_url", "received_at", *SAME)
_meta = Message._meta
_session_url = _meta.get_field("session_url")


def insert(drafts: Sequence[Draft], conversation_ids: Sequence[UUID]) -> set[UUID]:
    """Insert those that are no repeats; return their ids. Raises DatabaseError, then nothing is inserted."""
    database = connections[DEFAULT_DB_ALIAS]
    values, clock = [], _clock(database)
    for draft, conversation_id in zip(drafts, conversation_ids, strict=True):
        values += _values(draft, conversation_id, clock, database)
    with database.cursor() as cursor:
        cursor.execute(_statement(database.vendor, len(drafts)), values)
        if database.features.can_return_rows_from_bulk_insert:
            return {UUID(str(row[0])) for row in cursor.fetchall()}
    return set(Message.objects.filter(pk__in=[draft.id for draft in drafts]).values_list("pk", flat=True))


def _values(draft: Draft, conversation_id: UUID, clock: list[datetime], database: BaseDatabaseWrapper) -> list[Any]:
    sealed = _session_url.sealed(draft.id, draft.session_url)
    values = [draft.id, conversation_id, sealed, *clock, Message.Role.USER]
    values += [getattr(draft, name) for name in SAME[1:]]
    fields = _given_fields(database.vendor)
    prepared = [field.get_db_prep_save(value, database) for field, value in zip(fields, values, strict=True)]
    return prepared + _defaults(database.vendor)


def _clock(database: BaseDatabaseWrapper) -> list[datetime]:
    """One time for a batch: ids keep its order. SQLite, where there is one host, has no clock as fine as ours."""
    return [] if database.vendor == "postgresql" else [datetime.now(UTC)]


@cache
def _given_fields(vendor: str) -> list[Any]:
    return [_meta.get_field(name) for name in GIVEN if name != "received_at" or vendor != "postgresql"]


@cache
def _defaults(vendor: str) -> list[Any]:
    database = connections[DEFAULT_DB_ALIAS]
    return [field.get_db_prep_save(field.get_default(), database) for field in _other_fields()]


def _other_fields() -> list[Any]:
    return [field for field in _meta.concrete_fields if field.name not in GIVEN and not field.generated]


@cache
def _statement(vendor: str, rows: int) -> str:
    """``received_at`` is the database's clock, one for all hosts; neighbours keep their order by id."""
    database = connections[DEFAULT_DB_ALIAS]
    quote = database.ops.quote_name
    fields = [*(_meta.get_field(name) for name in GIVEN), *_other_fields()]
    is_clock = {field.name: field.name == "received_at" and vendor == "postgresql" for field in fields}
    row = ", ".join("STATEMENT_TIMESTAMP()" if is_clock[field.name] else "%s" for field in fields)
    columns = ", ".join(quote(field.column) for field in fields)
    returning = f" RETURNING {quote('id')}" if database.features.can_return_rows_from_bulk_insert else ""
    values = ", ".join([f"({row})"] * rows)
    into = f"INSERT INTO {quote(_meta.db_table)} ({columns})"
    return f"{into} VALUES {values} ON CONFLICT DO NOTHING{returning}"
