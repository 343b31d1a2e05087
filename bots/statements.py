"""INSERT and UPDATE of one row, each text written once: for the handful of statements that every message costs.

Django compiles a query set anew for each call, which is most of what such a statement costs a worker. Values pass the
model's fields as ever, so that a secret can become part of no query. What runs less often than once a message uses
query sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from monitoring.statements import insert, quoted

__all__ = ["insert", "update"]


def update(model: type[Model], changed: Mapping[str, Any], where: Mapping[str, Any]) -> int:
    """Rows changed. ``where`` names fields with the value that they must have; a tuple holds all that they may."""
    database = connections[DEFAULT_DB_ALIAS]
    field = model._meta.get_field
    wanted = {name: value if isinstance(value, tuple) else (value,) for name, value in where.items()}
    values = [field(name).get_db_prep_save(value, database) for name, value in changed.items()]  # type: ignore[union-attr]  # a column's
    values += [field(name).get_db_prep_save(one, database) for name, some in wanted.items() for one in some]  # type: ignore[union-attr]
    sizes = tuple((name, len(some)) for name, some in wanted.items())
    with database.cursor() as cursor:
        cursor.execute(_update_sql(model, tuple(changed), sizes), values)
        return int(cursor.rowcount)


@cache
def _update_sql(model: type[Model], changed: tuple[str, ...], where: tuple[tuple[str, int], ...]) -> str:
    given = ", ".join(f"{_column(model, name)} = %s" for name in changed)
    needed = " AND ".join(f"{_column(model, name)} IN ({', '.join(['%s'] * size)})" for name, size in where)
    return " ".join(["UPDATE", quoted(model._meta.db_table), "SET", given, "WHERE", needed])


def _column(model: type[Model], name: str) -> str:
    return quoted(str(model._meta.get_field(name).column))  # type: ignore[union-attr]  # no relation without a column
