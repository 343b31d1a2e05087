"""Server processes of one site, and what they cost: CPU of whole process trees, read from /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
START_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Stat:
    pid: int
    parent: int
    ticks: int  # its own and those of its ended children


def parse_stat(text: str) -> Stat:
    """A line of /proc/<pid>/stat. The program's name may hold blanks and brackets, so read from its end."""
    pid, _, rest = text.partition(" ")
    fields = rest.rpartition(")")[2].split()
    return Stat(int(pid), int(fields[1]), sum(int(value) for value in fields[11:15]))


def tree(roots: Iterable[int], stats: Iterable[Stat]) -> list[Stat]:
    """The roots and everything below them."""
    stats, wanted = list(stats), set(roots)
    found = {stat.pid: stat for stat in stats if stat.pid in wanted}
    while new := [s for s in stats if s.parent in found and s.pid not in found]:
        found |= {stat.pid: stat for stat in new}
    return list(found.values())


def running() -> list[Stat]:
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats.append(parse_stat(path.read_text("utf-8", "replace")))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return stats


def cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds, user and system, that these processes and all below them have used so far."""
    return sum(stat.ticks for stat in tree(roots, running())) / TICKS_A_SECOND


class Processes:
    """Started together with one environment; what they print goes to ``log``."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
        self.env, self._log = {**inherited, **env}, log
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, *words]
            started = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self._started.append(started)

    def call(self, *words: str) -> str:
        """Run a program to its end and return what it printed. Raises RuntimeError when it fails."""
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
        return done.stdout

    def wait_for(self, port: int) -> None:
        """Until somebody listens there. Raises RuntimeError when a process ended or the time is over."""
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if any(process.poll() is not None for process in self._started) or time.monotonic() > deadline:
                raise RuntimeError(f"a process did not start:\n{self._log.read_text('utf-8', 'replace')[-3000:]}")
            time.sleep(0.1)

    def cpu_s(self) -> float:
        return cpu_s(process.pid for process in self._started)

    def stop(self) -> None:
        for process in self._started:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in self._started:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self._started.clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
