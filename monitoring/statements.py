"""INSERT of one row, its text written once: for the few rows that everything else waits for.

Django compiles a query set anew for each call, which is most of what such a statement costs us. Values pass the model's
fields as ever, so that a secret can become part of no query.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model
from django.db.transaction import mark_for_rollback_on_error


def insert(row: Model) -> None:
    """As ``row.save(force_insert=True)``, without signals and without reading back a key. Raises IntegrityError."""
    database = connections[DEFAULT_DB_ALIAS]
    values = [field.get_db_prep_save(field.pre_save(row, add=True), database) for field in _fields(type(row))]
    with mark_for_rollback_on_error(), database.cursor() as cursor:
        cursor.execute(_insert_sql(type(row)), values)
    row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


@cache
def _fields(model: type[Model]) -> list[Any]:
    fields = [field for field in model._meta.concrete_fields if not field.generated]
    return [field for field in fields if field.get_internal_type() != "BigAutoField"]


@cache
def _insert_sql(model: type[Model]) -> str:
    names = ", ".join(quoted(field.column) for field in _fields(model))
    marks = ", ".join(["%s"] * len(_fields(model)))
    return " ".join(["INSERT INTO", quoted(model._meta.db_table), f"({names}) VALUES ({marks})"])


def quoted(name: str) -> str:
    return str(connections[DEFAULT_DB_ALIAS].ops.quote_name(name))
