"""CPU, memory and disks of this machine and this process. What the system does not show is left out."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from django.conf import settings

STAT, MEMORY = Path("/proc/stat"), Path("/proc/meminfo")
IDLE: Final = (3, 4)  # of the numbers in /proc/stat's first line: idle, iowait


class Meter:
    """Shares since the last look. The units of deploy/systemd hide /proc/stat from all processes but the workers."""

    def __init__(self) -> None:
        self._machine, self._process = _machine_ticks(), _process_s()

    def cpu_share(self) -> float | None:
        """0 to 1, of all cores together; None where nobody can say."""
        before, self._machine = self._machine, _machine_ticks()
        if before is None or self._machine is None:
            return None
        busy, total = (now - then for now, then in zip(self._machine, before, strict=True))
        return busy / total if total > 0 else None

    def process_cpu_share(self) -> float:
        """In cores: 1.0 is one core, wholly."""
        (used, at), self._process = self._process, _process_s()
        took_s = self._process[1] - at
        return (self._process[0] - used) / took_s if took_s > 0 else 0.0


def memory_share() -> float | None:
    """The part of this machine's memory that programs hold, caches left out."""
    try:
        lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
        total, available = (int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return 1 - available / total


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def disks() -> dict[str, float]:
    """Free share, 0 to 1, of the disk below each folder that ClawdBot writes into."""
    folders = [str(settings.DATA_DIR), *([str(settings.LOG_DIR)] if settings.LOG_DIR else [])]
    return {folder: share for folder in folders if (share := _free_share(folder)) is not None}


def _free_share(folder: str) -> float | None:
    """Of what programs without rights may use."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    usable = usage.used + usage.free
    return usage.free / usable if usable else 0.0


def _machine_ticks() -> tuple[int, int] | None:
    """(busy, all) since the start of the machine."""
    try:
        numbers = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    total = sum(numbers)
    return (total - sum(numbers[place] for place in IDLE), total) if len(numbers) > max(IDLE) else None


def _process_s() -> tuple[float, float]:
    return time.process_time(), time.monotonic()
