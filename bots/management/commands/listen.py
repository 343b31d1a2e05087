"""``manage.py listen``: holds the platforms' long connections, in production. Run as many as you like."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from bots.listening import Supervisor
from clawdbot_site.security import key_ring
from integrations import quota_meter
from monitoring import audit, metrics_server, watching


class Command(BaseCommand):
    help = (
        "Hold the platforms' long connections of all enabled endpoints; one process per connection, however many run."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.EMBEDDED:
            raise CommandError(
                "REDIS_URL is not set, so `make run` holds the long connections itself. "
                "Set REDIS_URL to run `listen` beside a production site."
            )
        key_ring.open_at_start()
        if settings.WORKER_METRICS_PORT:
            metrics_server.serve(settings.WORKER_METRICS_PORT)
        watching.start("listener")
        asyncio.new_event_loop().run_until_complete(self._listen())
        audit.write_overdue(everything=True)
        quota_meter.meter().flush_safely()
        watching.end()
        sys.stdout.flush()
        os._exit(0)  # a call that hangs in a thread would hold the exit up

    async def _listen(self) -> None:
        supervisor = asyncio.create_task(Supervisor().run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.cancel)
        self.stdout.write("Listening for messages over long connections. Ctrl-C stops it.")
        self.stdout.flush()
        with suppress(asyncio.CancelledError):
            await supervisor
