"""A thread of every process that writes its minutes and its heartbeat, every ten seconds, in one transaction.

A minute is written again and again until it is over, so a lost write costs nothing. While the database is away, minutes
wait in memory.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from monitoring import metrics, scans
from monitoring.models import Heartbeat, Rollup
from monitoring.rollups import collecting, machine
from monitoring.rollups.collecting import key

logger = logging.getLogger(__name__)

FLUSH_S: Final = 10.0
FIRST_S: Final = 1.0  # so that nobody thinks that a process that starts again is gone
MOST_WAITING: Final = 180  # minutes, while the database is away
GPU_GAUGES: Final = {"gpu": "clawdbot_gpu_utilization_ratio", "gpu_memory": "clawdbot_gpu_memory_bytes"}
HOST: Final = socket.gethostname()[:60]
ME: Final = f"{HOST}:{os.getpid()}:{secrets.token_hex(3)}"
Levels = dict[str, list[float]]


_sources: list[Callable[[], dict[str, Any]]] = []


def register_facts(source: Callable[[], dict[str, Any]]) -> None:
    """Tell with each heartbeat what ``source`` returns; registering it twice counts once."""
    if source not in _sources:
        _sources.append(source)


class Minute:
    def __init__(self, begins_at: datetime) -> None:
        self.begins_at = begins_at
        self.sums: dict[str, float] = defaultdict(float)
        self.levels: Levels = {}

    def look(self, name: str, value: float) -> None:
        total, looks, most = self.levels.get(name, [0.0, 0, value])
        self.levels[name] = [total + value, looks + 1, max(most, value)]

    def row(self) -> Rollup:
        sums = {name: round(value, 6) for name, value in self.sums.items()}
        levels = {name: [round(number, 6) for number in level] for name, level in self.levels.items()}
        return Rollup(minute=self.begins_at, process=ME, sums=sums, levels=levels)


class Keeper:
    """The minutes of this process. ``role``: site, worker, scheduler, listener, or embedded for all of them."""

    def __init__(self, role: str, now: Callable[[], datetime] = timezone.now) -> None:
        self.role, self._now, self._started_at = role, now, now()
        self._lock, self._meter = threading.Lock(), machine.Meter()
        self._before = collecting.totals()
        self._minutes: list[Minute] = []
        self.facts: dict[str, Any] = {}
        self.cpu_share: float | None = None

    def level(self, name: str, value: float) -> None:
        """Note how high something stands at this moment."""
        with self._lock:
            self._minute().look(name, value)

    def look(self) -> None:
        """Take what was counted since the last look into the minute that runs."""
        totals, machine_levels = collecting.totals(), self._machine_levels()
        with self._lock:
            minute = self._minute()
            for name, total in totals.items():
                if (grown := total - self._before.get(name, 0.0)) > 0:
                    minute.sums[name] += grown
            for name, value in machine_levels.items():
                minute.look(name, value)
            self._before = totals

    def flush(self) -> None:
        """Write. Raises DatabaseError, InterfaceError; what could not be written is kept."""
        with self._lock:
            rows = [(minute, minute.row()) for minute in self._minutes]
        with transaction.atomic():
            Rollup.objects.bulk_create(
                [row for _minute, row in rows],
                update_conflicts=True,
                unique_fields=["minute", "process"],
                update_fields=["sums", "levels"],
            )
            self._beat()
        with self._lock:
            over = [minute for minute, _row in rows if minute is not self._minutes[-1]]
            self._minutes = [minute for minute in self._minutes if minute not in over]

    def farewell(self) -> None:
        """The process ends: what it counted is written, and its heartbeat goes."""
        try:
            self.look()
            self.flush()
            Heartbeat.objects.filter(process=ME).delete()
        except (DatabaseError, InterfaceError):
            logger.warning("the last minute of this process could not be written", exc_info=True)

    def run(self) -> None:
        pause_s = FIRST_S
        while True:
            time.sleep(pause_s)
            pause_s = FLUSH_S
            try:
                self.look()
                self.flush()
            except Exception as error:  # noqa: BLE001  (outermost: whatever is wrong now, the next minute is written)
                logger.warning("minutes wait to be written", extra={"reason": type(error).__name__})
                connection.close()

    def _minute(self) -> Minute:
        begins_at = self._now().replace(second=0, microsecond=0)
        if not self._minutes or self._minutes[-1].begins_at < begins_at:
            self._minutes = [*self._minutes[-MOST_WAITING:], Minute(begins_at)]
        return self._minutes[-1]

    def _beat(self) -> None:
        told = {"role": self.role, "host": HOST, "seen_at": self._now(), "facts": self._all_facts()}
        if not Heartbeat.objects.filter(process=ME).update(**told):
            Heartbeat.objects.create(process=ME, started_at=self._started_at, **told)

    def _all_facts(self) -> dict[str, Any]:
        return {**self.facts, **{name: fact for source in _sources for name, fact in source().items()}}

    def _machine_levels(self) -> dict[str, float]:
        found = {
            key("process_cpu", self.role): self._meter.process_cpu_share(),
            key("process_memory", self.role): float(machine.resident_bytes()),
        }
        self.cpu_share = self._meter.cpu_share()
        shares = {"cpu": self.cpu_share, "memory": machine.memory_share()}
        found |= {key(name, HOST): share for name, share in shares.items() if share is not None}
        found |= {key("disk_free", HOST, folder): share for folder, share in machine.disks().items()}
        if scans.is_bad():
            found[key("scan_bad", HOST)] = 1.0
        for name, gauge in GPU_GAUGES.items():
            found |= {key(name, HOST, gpu): value for gpu, value in metrics.asked(gauge).items()}
        return found


_keeper: Keeper | None = None
_guard = threading.Lock()


def start(role: str) -> Keeper:
    """Keep minutes in this process from now on; the first call decides the role."""
    global _keeper
    with _guard:
        if _keeper is None:
            _keeper = Keeper(role)
            threading.Thread(target=_keeper.run, name="rollups", daemon=True).start()
        return _keeper


def keeper() -> Keeper | None:
    return _keeper


def latest_cpu_share() -> float | None:
    """Of the whole machine, over the last ten seconds; None where nobody looks."""
    return _keeper.cpu_share if _keeper else None


def note(**facts: Any) -> None:
    """Tell with the next heartbeat. Costs nothing where no minutes are kept."""
    if _keeper is not None:
        _keeper.facts = {**_keeper.facts, **facts}


def farewell() -> None:
    if _keeper is not None:
        _keeper.farewell()
