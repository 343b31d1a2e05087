"""Migrations beside a running site: on PostgreSQL each makes room for itself.

The old code goes on meanwhile. A migration that locks one table, works, and then wants another would wait for
statements that wait for it, and PostgreSQL ends it. So it locks all tables at its beginning, in a moment or not at all.
"""

from __future__ import annotations

import time
from typing import Any, Final

from django.core.management.base import CommandError
from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from psycopg.errors import LockNotAvailable

LOCK_TIMEOUT_MS: Final = 300  # below PostgreSQL's deadlock_timeout of 1 s: we give way before it ends anybody
PAUSE_S: Final = 0.2
PATIENCE_S: Final = 60.0


class PatientExecutor(MigrationExecutor):
    def apply_migration(self, state: Any, migration: Any, fake: bool = False, fake_initial: bool = False) -> Any:
        if fake or not migration.atomic or self.connection.vendor != "postgresql":
            return super().apply_migration(state, migration, fake, fake_initial)
        end = time.monotonic() + PATIENCE_S
        while True:
            with transaction.atomic(using=self.connection.alias):
                if _has_locked(self.connection):
                    return super().apply_migration(state, migration, fake, fake_initial)
            if time.monotonic() > end:
                raise CommandError(
                    "The database is too busy to be changed. Stop the site and its workers, then migrate again."
                )
            time.sleep(PAUSE_S)


def _has_locked(connection: BaseDatabaseWrapper) -> bool:
    """Whether nobody else touches a table until the transaction ends. If not, nothing is locked."""
    tables = sorted(connection.introspection.django_table_names(only_existing=True, include_views=False))
    if not tables:
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(LOCK_TIMEOUT_MS)])
        try:
            with transaction.atomic(using=connection.alias):
                # nosemgrep: sql-from-strings  (the names of our own tables, quoted: no value can be a name)
                cursor.execute(
                    f"LOCK TABLE {', '.join(map(connection.ops.quote_name, tables))} IN ACCESS EXCLUSIVE MODE"
                )
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            return False
        cursor.execute("SELECT set_config('lock_timeout', '0', true)")
    return True
