"""Database connections of threads that do the same small work thousands of times a minute.

Django asks each connection whether it is alive before each request and task: one more round trip a message. Here a
connection is asked when it was idle for long or had an error; one that breaks in between costs one failed try, which
the platform's redelivery or the sweeper makes good.
"""

from __future__ import annotations

import threading
import time

from django.db import close_old_connections, connection

TRUSTED_S = 2.0
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
