"""One process of the whole installation looks at the rules; while the database is away, the one that did so last.

The lease is a row; the lock file tells processes of one machine apart while nobody can ask for the row.
"""

from __future__ import annotations

import fcntl
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from monitoring.models import Leader
from monitoring.rollups.keeping import HOST, ME

LEASE: Final = timedelta(seconds=40)
NAME: Final = "alerts"


class Leadership:
    def __init__(self, me: str = ME) -> None:
        self._me = me
        self._holder = ""
        self._file: IO[str] | None = None

    def take(self, now: datetime) -> bool:
        """Lead from now on, or go on leading. Raises DatabaseError."""
        free = Q(owner=self._me) | Q(until__lt=now)
        taken = bool(Leader.objects.filter(free, name=NAME).update(owner=self._me, until=now + LEASE))
        if not taken:
            taken = self._took_first(now)
        self._holder = self._me if taken else Leader.objects.values_list("owner", flat=True).get(name=NAME)
        if taken:
            self._hold_file()
        else:
            self.let_file_go()
        return taken

    def may_go_on(self) -> bool:
        """Without the database: whether this process is the one to speak."""
        if self._holder == self._me:
            return True
        is_here = not self._holder or self._holder.partition(":")[0] == HOST
        return is_here and self._hold_file()

    def resign(self) -> None:
        """The process ends: the next one need not wait. Raises DatabaseError."""
        Leader.objects.filter(name=NAME, owner=self._me).update(until=datetime.fromtimestamp(0).astimezone())
        self.let_file_go()

    def _took_first(self, now: datetime) -> bool:
        if Leader.objects.filter(name=NAME).exists():
            return False
        try:
            with transaction.atomic():
                Leader.objects.create(name=NAME, owner=self._me, until=now + LEASE)
        except IntegrityError:
            return False
        return True

    def _hold_file(self) -> bool:
        if self._file is not None:
            return True
        try:
            file = Path(settings.DATA_DIR, "alerts.lock").open("a")  # noqa: SIM115  (held as long as this process leads)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def let_file_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
