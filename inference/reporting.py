"""What this worker's models are doing, told every few seconds: rows for people, gauges for machines.

One row for each worker and model, in the database: so it is the same in the embedded shape and with many machines.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import DatabaseError, IntegrityError, InterfaceError, connection
from django.utils import timezone

from inference import gpus, worker
from inference.models import STALE_WORKER_S, LanguageModel, WorkerState
from monitoring import metrics

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 5.0
SILENT_AFTER = timedelta(seconds=STALE_WORKER_S)
FORGET_AFTER = timedelta(seconds=10 * STALE_WORKER_S)


def start(name: str, on_given_up: Callable[[worker.Slot], None] = worker.forget) -> Reporter:
    """Tell from now on, in a thread, under this worker's name; ``on_given_up`` hears of an engine broken for good."""
    reporter = Reporter(name, on_given_up)
    threading.Thread(target=reporter.run, name="model-reporter", daemon=True).start()
    return reporter


def register_gauges() -> None:
    metrics.register_gauge("clawdbot_inference_running", lambda: _gauge("running"))
    metrics.register_gauge("clawdbot_inference_waiting", lambda: _gauge("waiting"))
    metrics.register_gauge("clawdbot_model_up", models_up)
    metrics.register_gauge("clawdbot_model_on_gpu", models_on_gpu)
    metrics.register_gauge("clawdbot_gpu_utilization_ratio", gpus.utilization)
    metrics.register_gauge("clawdbot_gpu_memory_bytes", gpus.memory_bytes)


def models_up() -> dict[str, float]:
    checked = LanguageModel.objects.exclude(checked_at=None)
    return {model.name: float(model.is_check_fresh and model.status == LanguageModel.Status.OK) for model in checked}


def models_on_gpu() -> dict[str, float]:
    """Models that a living worker holds on a GPU."""
    rows = WorkerState.objects.filter(gpu_memory_bytes__gt=0, seen_at__gt=timezone.now() - SILENT_AFTER)
    return dict.fromkeys(sorted(set(rows.values_list("model__name", flat=True))), 1.0)


class Reporter:
    def __init__(self, name: str, on_given_up: Callable[[worker.Slot], None] = worker.forget) -> None:
        self.name = name[:100]
        self._on_given_up = on_given_up
        self._stop = threading.Event()
        self._started_at = timezone.now()

    def run(self) -> None:
        told_at = 0.0
        while not self._stop.wait(LOOK_EVERY_S):
            self.look()
            if time.monotonic() - told_at >= TELL_EVERY_S:
                told_at = time.monotonic()
                self._tell_or_log()

    def look(self) -> None:
        for slot in worker.slots():
            stats = stats_of(slot)
            if running := int(stats.get("running") or 0):
                metrics.batch(slot.name, running)
            if stats.get("has_given_up"):
                logger.error("an engine has given up", extra={"model": slot.name})
                self._on_given_up(slot)

    def stop(self) -> None:
        """The worker ends: its rows go."""
        self._stop.set()
        try:
            WorkerState.objects.filter(worker=self.name).delete()
        except (DatabaseError, InterfaceError):
            logger.warning("the worker's rows could not be removed", exc_info=True)

    def tell(self) -> None:
        for slot in worker.slots():
            self._tell_of(slot)
        WorkerState.objects.filter(seen_at__lt=timezone.now() - FORGET_AFTER).delete()

    def _tell_or_log(self) -> None:
        try:
            self.tell()
        except (DatabaseError, InterfaceError):
            logger.warning("the worker's state could not be told", exc_info=True)
            connection.close()

    def _tell_of(self, slot: worker.Slot) -> None:
        told = {
            "state": slot.state,
            "detail": slot.detail[:300],
            "stats": stats_of(slot),
            "memory_bytes": memory_bytes(),
            "gpu_memory_bytes": gpus.held_by_torch(),
            "seen_at": timezone.now(),
        }
        rows = WorkerState.objects.filter(worker=self.name, model_id=slot.model_id)
        if not rows.update(**told):
            try:
                WorkerState.objects.create(
                    worker=self.name, model_id=slot.model_id, started_at=self._started_at, **told
                )
            except IntegrityError:  # the model was deleted meanwhile
                logger.info("a model is gone", extra={"model": slot.name})


def stats_of(slot: worker.Slot) -> dict[str, Any]:
    """Whatever the engine tells, fit for JSON."""
    if slot.engine is None:
        return {}
    stats: Any = slot.engine.stats()
    is_values = dataclasses.is_dataclass(stats) and not isinstance(stats, type)
    given = dataclasses.asdict(stats) if is_values else dict(stats)
    return {str(name): _plain(value) for name, value in given.items()}


def memory_bytes() -> int:
    """Of this process, resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def _gauge(name: str) -> dict[str, float]:
    return {slot.name: float(stats_of(slot).get(name) or 0) for slot in worker.slots()}
