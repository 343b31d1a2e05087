"""What a worker process does besides its tasks: warm up its local models, and drain when it is told to stop."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Collection
from typing import Any

from celery.platforms import EX_FAILURE
from celery.signals import task_prerun, worker_init, worker_ready, worker_shutdown, worker_shutting_down
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, connection

from bots import connections, leases
from clawdbot_site.security import key_ring
from inference import health, reporting
from inference.errors import InferenceError
from inference.models import LanguageModel
from inference.worker import Slot, drain_all, engine_of
from integrations.web import live
from monitoring import metrics_server, watching
from monitoring.rollups import keeping

logger = logging.getLogger(__name__)
_reporters: list[reporting.Reporter] = []
DRAIN_S = 20.0
LAST_NEWS_S = 2.0  # whoever follows an answer and is not told looks at the database anyway


@task_prerun.connect
def before_task(**_: Any) -> None:
    """Threads keep their connections from task to task (settings: CELERY_DB_REUSE_MAX)."""
    connections.freshen()


@worker_init.connect
def on_start(**_: Any) -> None:
    """Before it takes the first task: a worker that cannot open a secret would only fail all it touches."""
    try:
        key_ring.open_at_start()
    except key_ring.KeysUnavailable as error:
        sys.exit(f"Configuration: {error}")  # the signal swallows errors, and not this
    except DatabaseError:
        logger.warning("the data keys were not opened yet, the database is unreachable")
    finally:
        connection.close()


@worker_ready.connect
def on_ready(sender: Any, **_: Any) -> None:
    """A worker process of its own (the embedded ones have no such signal)."""
    gc.freeze()  # what is loaded by now stays: collecting need not look through it (as in asgi.py)
    queues = sorted({queue.name for queue in sender.task_consumer.queues or ()})
    warm_up(queues)
    watching.start("worker")
    keeping.note(queues=queues)
    _reporters.append(reporting.start(str(sender.hostname), give_up))
    if settings.WORKER_METRICS_PORT:
        metrics_server.serve(settings.WORKER_METRICS_PORT)


@worker_shutting_down.connect
def on_stop(**_: Any) -> None:
    threading.Thread(target=drain, args=(threading.Event(),), name="drain", daemon=True).start()


@worker_shutdown.connect
def on_end(**_: Any) -> None:
    while _reporters:
        _reporters.pop().stop()
    watching.end()
    live.flush(LAST_NEWS_S)


def drain(is_over: threading.Event) -> None:
    """Begin nothing new, let answers under way end and be delivered, cut the rest at the deadline.

    What was cut stays waiting in the database. ``is_over`` says that there is nothing left to cut.
    """
    ends_at_s = time.monotonic() + DRAIN_S
    drain_all(DRAIN_S)
    if not is_over.wait(max(0.0, ends_at_s - time.monotonic())):
        leases.cancel_all()


def give_up(slot: Slot) -> None:
    """An engine broke for good, and with it perhaps the GPU under it: only a new process helps. Whoever started this
    one sees a status that is not 0, and starts it again.
    """
    state.should_stop = EX_FAILURE  # type: ignore[assignment]  # its stub knows only None


def warm_up(queues: Collection[str]) -> None:
    """Load, in the background, the local models that enabled bots use: the first question should not pay for it."""
    threading.Thread(target=_load, args=(set(queues),), name="warm-up", daemon=True).start()


def _load(queues: set[str]) -> None:
    for model in health.in_use().filter(engine=LanguageModel.Engine.TRANSFORMERS, queue__in=queues):
        try:
            engine_of(model)
        except InferenceError as error:
            logger.error("a model could not be loaded", extra={"model": model.name, "reason": str(error)})
        else:
            logger.info("model loaded", extra={"model": model.name})
    connection.close()
