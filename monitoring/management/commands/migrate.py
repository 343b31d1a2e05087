"""``manage.py migrate``: Django's own, beside a running site (monitoring/migrating.py).

With DATABASE_OWNER_URL it works as the owner, who then gives the site its rights.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, connection

from monitoring import grants
from monitoring.migrating import PatientExecutor


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        migrate.MigrationExecutor = PatientExecutor  # type: ignore[attr-defined]  # where Django's command looks it up
        if not grants.has_owner() or options.get("database") != DEFAULT_DB_ALIAS:
            super().handle(*args, **options)
            return
        role = str(connection.settings_dict["USER"])
        with grants.as_owner():
            super().handle(*args, **options)
            grants.give_to(role, connection)
