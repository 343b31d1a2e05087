"""Database connections of threads that do the same small work thousands of times a minute.

Django asks each connection whether it is alive before each request and task: one more round trip a message. Here a
connection is asked when it was idle for long or had an error; one that breaks in between costs one failed try, which
the platform's redelivery or the sweeper makes good.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections, connection

TRUSTED_S = 2.0
PATIENCE_S = (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5)
T = TypeVar("T")
logger = logging.getLogger(__name__)
_used = threading.local()


def freshen() -> None:
    """Call at the beginning of each piece of work, in its thread."""
    now = time.monotonic()
    is_trusted = now - getattr(_used, "at_s", float("-inf")) < TRUSTED_S and not connection.errors_occurred
    if is_trusted:
        connection.health_check_done = True  # type: ignore[attr-defined]  # the stubs do not know it
    else:
        close_old_connections()
    _used.at_s = now


def patiently(work: Callable[[], T]) -> T:
    """Do it again, for 8 s, while the database is away: for what only this worker knows. Outside of transactions."""
    for pause_s in PATIENCE_S:
        try:
            return work()
        except (OperationalError, InterfaceError):
            logger.warning("the database is away; what was sent is noted later")
            connection.close()
            time.sleep(pause_s)
    return work()
