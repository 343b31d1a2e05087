"""The site as systemd runs it: what the units execute, in their time, and a socket that outlives the site's process."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scripts import servers
from tests.chaos.site import ChaosSite
from tests.servers.site import ROOT, free_port, until

WEB = "clawdbot"
OTHERS = ("clawdbot-inference", "clawdbot-worker", "clawdbot-beat", "clawdbot-listen")  # PartOf clawdbot
BACK_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Restart:
    """``stopped_s``: from SIGTERM to the end of the process. ``away_s``: from there until the next one works."""

    name: str
    stopped_s: float
    away_s: float


class Service:
    """One unit's process. ``stop`` sends SIGTERM; systemd would kill what takes longer than the unit allows."""

    def __init__(self, name: str, env: dict[str, str], listening: socket.socket, log: IO[bytes], root: Path) -> None:
        text = (ROOT / f"deploy/systemd/{name}.service").read_text("utf-8")
        self.name, self._log, self._root = name, log, root
        self._descriptors = [listening.fileno()] if name == WEB else []
        self.command = [_here(word, listening) for word in shlex.split(_value(text, "ExecStart"))]
        self.metrics_port = free_port() if "WORKER_METRICS_PORT=" in text else 0
        self._most_s = float(_value(text, "TimeoutStopSec"))
        self._env = env | ({"WORKER_METRICS_PORT": str(self.metrics_port)} if self.metrics_port else {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            cwd=self._root,
            env=self._env,
            pass_fds=self._descriptors,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def stop(self) -> float:
        """Returns how long it took. KillMode=mixed: only the main process is told."""
        process, began_s = self._living(), time.monotonic()
        process.terminate()
        status = process.wait(self._most_s)
        assert status in (0, -signal.SIGTERM), f"{self.name} ended with {status}"  # -15: it had hardly begun
        return time.monotonic() - began_s

    def is_up(self) -> bool:
        """It serves its metrics; the scheduler has none, and need only live."""
        return self._living().poll() is None and (not self.metrics_port or servers.answers(self.metrics_port))

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def _living(self) -> subprocess.Popen[bytes]:
        assert self._process
        assert self._process.poll() is None, f"{self.name} ended by itself with {self._process.returncode}"
        return self._process


def _value(text: str, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
    return str(value)


def _here(word: str, listening: socket.socket) -> str:
    """A word of ExecStart, for this tree's programs; systemd's first descriptor is 3, ours another."""
    if word == "3":
        return str(listening.fileno())
    return re.sub(r"^/opt/clawdbot/\.venv/bin", str(Path(sys.executable).parent), word).replace("%%", "%")


class ServedSite(ChaosSite):
    """``env``: what its processes are given. ``listening``: the site's port, which is open as long as this lives."""

    def __init__(self, folder: Path, gateway: str = "") -> None:
        super().__init__(folder, gateway=gateway)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listening.getsockname()[1]
        self.services: dict[str, Service] = {}

    def _begin(self, stack: ExitStack, env: dict[str, str], log: IO[bytes]) -> None:
        stack.enter_context(self.listening)
        stack.callback(lambda: [service.kill() for service in self.services.values()])
        self.env, self._log = env, log
        self.keys = self._set_up(env)
        self._start_everything()

    def service(self, name: str) -> Service:
        return Service(name, self.env, self.listening, self._log, self.root)

    def restart(self, name: str) -> Restart:
        stopped_s, ended_s = self.services[name].stop(), time.monotonic()
        self._start_services((name,))
        return Restart(name, stopped_s, time.monotonic() - ended_s)

    def restart_all(self) -> Restart:
        """``systemctl restart clawdbot``: the others end before the site and begin after it."""
        began_s = time.monotonic()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self.services[name].stop(), OTHERS))
        self.services[WEB].stop()
        ended_s = time.monotonic()
        self._start_everything()
        return Restart("all", ended_s - began_s, time.monotonic() - ended_s)

    def wait_until_settled(self, limit_s: float) -> None:
        """Until every message has its end."""
        end_s = time.monotonic() + limit_s
        while (waiting := self.waiting()) != []:
            assert time.monotonic() < end_s, (
                f"after {limit_s:.0f} s {len(waiting or ())} wait, like {waiting and waiting[0]}"
            )
            time.sleep(0.3)

    def _start_everything(self) -> None:
        self._start_services((WEB,))
        self._start_services(OTHERS)

    def _start_services(self, names: Sequence[str]) -> None:
        for name in names:
            self.services[name] = self.service(name)
            self.services[name].start()
        for name in names:
            check = self.is_ready if name == WEB else self.services[name].is_up
            until(check, f"{name} does not come back, see {self.folder}/site.log", BACK_WITHIN_S)
