"""The scheduler's process: Celery's, but for how it ends."""

from __future__ import annotations

import signal
from typing import Any

from celery.apps import beat


class Beat(beat.Beat):
    def install_sync_handler(self, service: Any) -> None:
        """Told to end, it finishes its look at the schedule, saves that, and leaves: within two seconds.

        Celery's own handler saves it at once. Where that interrupts a statement it waits for ever for the connection,
        which the interrupted statement holds (found by restarts under load).
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service._is_shutdown.set())
