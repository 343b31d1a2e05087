"""What every long-living process does besides its work: it keeps its minutes, and looks at the alert rules if it leads.

Off in tests (``settings.WATCH_ITSELF``). And it sends traces, where they are on.
"""

from __future__ import annotations

import atexit
import logging

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from monitoring import tracing
from monitoring.alerting import running
from monitoring.rollups import keeping

logger = logging.getLogger(__name__)

SCHEDULER = "scheduler"  # it ends while the database is away, so it must not be the one that tells of that


def start(role: str) -> None:
    """``role``: embedded, site, worker, scheduler or listener. The first call decides."""
    if not settings.WATCH_ITSELF:
        return
    tracing.start(role)
    keeping.start(role)
    if role != SCHEDULER:
        running.start()
    atexit.register(end)


def end() -> None:
    """Before a process ends; a second call does nothing more."""
    atexit.unregister(end)
    keeping.farewell()
    try:
        running.resign()
    except (DatabaseError, InterfaceError):
        logger.warning("the lead of the alert rules could not be given up", exc_info=True)
    tracing.end()
