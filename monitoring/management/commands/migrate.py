"""``manage.py migrate``: Django's, which on PostgreSQL begins again where a running site stood in its way."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.commands import migrate
from django.db import OperationalError
from psycopg.errors import DeadlockDetected

TRIES, PAUSE_S = 10, 0.5


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        """The old code goes on meanwhile: its statements and ours may wait for each other, and PostgreSQL ends ours.

        That migration is undone as a whole, those before it stay.
        """
        for left in reversed(range(TRIES)):
            try:
                super().handle(*args, **options)
            except OperationalError as error:
                if not left or not isinstance(error.__cause__, DeadlockDetected):
                    raise
                self.stderr.write("The database was busy: trying again.")
                time.sleep(PAUSE_S)
            else:
                return
