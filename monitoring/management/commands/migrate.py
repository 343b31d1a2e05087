"""``manage.py migrate``: Django's own; with DATABASE_OWNER_URL as the owner, who then gives the site its rights."""

from __future__ import annotations

from typing import Any

from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import DEFAULT_DB_ALIAS, connection

from monitoring import grants


class Command(MigrateCommand):
    def handle(self, *args: Any, **options: Any) -> None:
        if not grants.has_owner() or options.get("database") != DEFAULT_DB_ALIAS:
            super().handle(*args, **options)
            return
        role = str(connection.settings_dict["USER"])
        with grants.as_owner():
            super().handle(*args, **options)
            grants.give_to(role, connection)
