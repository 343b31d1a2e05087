"""The Celery app. A doorbell, never the truth: the database says what is to be done (docs/architecture.md)."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging
from kombu.transport import redis as transport
from kombu.utils.objects import cached_property
from redis.exceptions import ConnectionError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clawdbot_site.settings.base")


class Channel(transport.Channel):
    """kombu's Redis channel, for a Redis that goes away. Both cases ended the worker, with status 0 (kill matrix)."""

    do_restore = False  # what was fetched and not begun: the sweeper rings again

    def _connparams(self, *args: Any, **options: Any) -> Any:
        """An acknowledgement that comes after the end is a connection's error, which Celery knows how to take."""
        if self.connection is None:
            raise ConnectionError("the connection to Redis is closed")
        return super()._connparams(*args, **options)  # type: ignore[misc]  # untyped


transport.Transport.Channel = Channel


@setup_logging.connect
def on_setup_logging(**_: Any) -> None:
    """Logging is Django's. Without a receiver Celery would set the root logger to a level of its own (WARNING)."""


@beat_init.connect
def on_beat(**_: Any) -> None:
    """The scheduler keeps its minutes as well. Imported only now: settings are there by then."""
    from monitoring import watching

    watching.start(watching.SCHEDULER)


class SiteCelery(Celery):
    """Refuses workers and schedulers beside the embedded mode: its broker lives inside `make run`."""

    @cached_property
    def Worker(self) -> Any:
        worker = self._program("worker", "celery.apps.worker:Worker")
        # Workers need not know each other: the lease decides. And gossip ends a worker for good, with exit status 0,
        # when Redis goes away at a bad moment (seen in the kill matrix).
        alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        return lambda *args, **options: worker(*args, **{**options, **alone})

    @cached_property
    def Beat(self) -> Any:
        return self._program("scheduler", "clawdbot_site.scheduler:Beat")

    def _program(self, what: str, path: str) -> Any:
        if str(self.conf.broker_url).startswith("memory:"):
            sys.exit(f"REDIS_URL is not set, so the {what} is part of `make run`. Set REDIS_URL to run it by itself.")
        return self.subclass_with_self(path)  # type: ignore[arg-type]  # Celery takes names as well


app = SiteCelery("clawdbot")
app.set_default()  # for every thread: `current_app` is thread-local, and its fallback an app with a default broker
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
