"""The thread that looks at the rules, in every process but the scheduler, which ends while the database is away."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone, translation

from monitoring.alerting import notices, rules
from monitoring.alerting.evaluating import Evaluator
from monitoring.alerting.leading import Leadership
from monitoring.alerting.outage import Outage
from monitoring.rollups import tidying

logger = logging.getLogger(__name__)

EVERY_S: Final = 15.0
HURRY_S: Final = 6.0  # while the database is away
FIRST_S: Final = 3.0
TIDY_S: Final = 60.0


class Watch:
    """One look after the other."""

    def __init__(self) -> None:
        self.leadership, self.evaluator = Leadership(), Evaluator()
        self.outage = Outage(self.evaluator)
        self._tidied_at, self._has_rows = 0.0, False

    def look(self, now: datetime) -> bool:
        """Do what is due if this process leads; False while the database is away."""
        try:
            if self.leadership.take(now):
                self._lead(now)
        except (DatabaseError, InterfaceError) as problem:
            connection.close()
            if self.leadership.may_go_on():
                self.outage.look(now, problem)
            return False
        return True

    def _lead(self, now: datetime) -> None:
        if not self._has_rows:
            rules.ensure_rows()
            self._has_rows = True
        self.outage.settle(now)
        self.evaluator.evaluate(now)
        notices.tell(now)
        self.outage.remember(now)
        if time.monotonic() - self._tidied_at >= TIDY_S:
            self._tidied_at = time.monotonic()
            tidying.tidy(now)

    def run(self) -> None:
        pause_s = FIRST_S
        while True:
            time.sleep(pause_s)
            try:
                with translation.override(settings.LANGUAGE_CODE):
                    pause_s = EVERY_S if self.look(timezone.now()) else HURRY_S
            except Exception:  # outermost: the watch must not end
                logger.exception("the alert rules could not be looked at")
                connection.close()
                pause_s = EVERY_S


_watch: Watch | None = None
_guard = threading.Lock()


def start() -> None:
    """Look at the rules from now on, whenever this process leads."""
    global _watch
    with _guard:
        if _watch is None:
            _watch = Watch()
            threading.Thread(target=_watch.run, name="alerts", daemon=True).start()


def resign() -> None:
    """For a process that ends."""
    if _watch is not None:
        _watch.leadership.resign()
