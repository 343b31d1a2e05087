"""Two roles on PostgreSQL (rule U4): the owner migrates and purges, the running site may only read and add audit rows.

With DATABASE_OWNER_URL ``migrate`` works as the owner and then gives the role of DATABASE_URL what it needs. On SQLite
there are no roles; there the triggers and the copies of the checkpoints protect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

from monitoring.triggers import TABLES

OWNER: Final = "owner"  # the alias of DATABASE_OWNER_URL
WHO_AND_WHERE: Final = ("USER", "PASSWORD", "HOST", "PORT", "NAME", "OPTIONS")
FORBIDDEN: Final = ("UPDATE", "DELETE", "TRUNCATE")


def has_owner() -> bool:
    return OWNER in settings.DATABASES


@contextmanager
def as_owner() -> Iterator[None]:
    """Inside, this thread's default connection is the owner's."""
    wrapper: Any = connections[DEFAULT_DB_ALIAS]
    own = wrapper.settings_dict
    wrapper.close()
    wrapper.settings_dict = {**own, **{name: connections[OWNER].settings_dict[name] for name in WHO_AND_WHERE}}
    try:
        yield
    finally:
        wrapper.close()
        wrapper.settings_dict = own


def give_to(role: str, wrapper: BaseDatabaseWrapper) -> None:
    """Let ``role`` run the site: everything in every table, except in the append-only ones. Call it as the owner."""
    name = wrapper.ops.quote_name(role)
    words = [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}",
        f"GRANT USAGE ON SCHEMA public TO {name}",
        *(f"REVOKE {', '.join(FORBIDDEN)} ON {table} FROM {name}, PUBLIC" for table in TABLES),
    ]
    with wrapper.cursor() as cursor:
        for word in words:
            cursor.execute(word)


def excess() -> list[str]:
    """What the running site could do to audit rows although it never should, in words. Nothing on SQLite."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        sql = (
            "SELECT t FROM unnest(%s::text[]) t WHERE has_table_privilege(current_user, t, 'UPDATE, DELETE, TRUNCATE')"
        )
        cursor.execute(sql, [list(TABLES)])
        tables = ", ".join(row[0] for row in cursor.fetchall())
    if not tables:
        return []
    text = _("The site's own database role may change %(tables)s: set DATABASE_OWNER_URL (docs/audit.md).")
    return [text % {"tables": tables}]
