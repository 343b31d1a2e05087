"""The embedded mode: site, workers, scheduler and long connections as threads of one process. The same code as the
production shape; only the broker, the channel layer and the cache are in memory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from pathlib import Path
from typing import IO, Any

from celery import Celery
from celery.beat import EmbeddedService
from celery.worker import WorkController
from django.conf import settings
from django.core.management.base import CommandError

from bots import listening, workers
from inference import reporting
from inference.models import LanguageModel
from inference.worker import close_all
from monitoring.rollups import keeping

INFERENCE_THREADS, OTHER_THREADS = 16, 4


def lock(data_dir: Path) -> IO[str]:
    """Held for the life of the process: two embedded sites on one data folder would be two brokers."""
    file = (data_dir / "site.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CommandError(f"ClawdBot is already running on {data_dir}. Stop it, or set CLAWDBOT_DATA_DIR.") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


class Workers:
    """The Celery workers, the scheduler and the long connections of this process."""

    def __init__(self) -> None:
        self._workers = [
            _worker("inference", _inference_queues(), INFERENCE_THREADS),
            _worker("delivery", ["delivery", "default"], OTHER_THREADS),
        ]
        self._threads = [threading.Thread(target=w.start, name="worker", daemon=True) for w in self._workers]
        beat: Any = EmbeddedService(_app("beat"), thread=True, scheduler_cls=settings.CELERY_BEAT_SCHEDULER)
        beat.daemon = True
        self._beat = beat
        self._connections = listening.Background()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        self._beat.start()
        self._connections.start()
        workers.warm_up(_inference_queues())
        keeping.note(queues=[*_inference_queues(), "delivery", "default"])
        self._reporter = reporting.start(f"embedded@{socket.gethostname()}")

    def stop(self) -> None:
        """Take nothing new; let answers end for a while; cut the rest, which is begun anew at the next start."""
        self._beat.stop()
        self._connections.stop()
        is_over = threading.Event()
        threading.Thread(target=workers.drain, args=(is_over,), name="drain", daemon=True).start()
        stopping = [threading.Thread(target=worker.stop, daemon=True) for worker in self._workers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(workers.DRAIN_S + 10)
        is_over.set()
        self._reporter.stop()
        close_all()


def _app(name: str) -> Celery:
    """An app of its own: the queues that a worker listens to are kept on the app. Shared tasks belong to all apps."""
    app = Celery(f"clawdbot-{name}", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks(force=True)
    return app


def _worker(name: str, queues: list[str], threads: int) -> WorkController:
    return WorkController(
        app=_app(name),
        hostname=f"{name}@embedded",
        pool_cls="threads",
        concurrency=threads,
        queues=queues,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=logging.WARNING,
    )


def _inference_queues() -> list[str]:
    """Every queue that a model names; one process serves them all here."""
    named = set(LanguageModel.objects.values_list("queue", flat=True))
    return sorted({"inference", *named})
