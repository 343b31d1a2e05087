"""The processes under test: a PostgreSQL, a Redis, web, workers and scheduler. Each is killed and begun again."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import IO

from scripts import servers
from tests.servers.site import ROOT, free_port, until

Process = subprocess.Popen[bytes]
MEMBERS = {"web": 1, "worker": 3, "beat": 1}


def descendants(pid: int) -> list[int]:
    """The processes below one, from the kernel."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except FileNotFoundError:
        return []
    return [*children, *(below for child in children for below in descendants(child))]


class Server:
    """PostgreSQL or Redis on a port that it keeps. ``kill`` leaves it no time for anything."""

    def __init__(self, command: list[str], port: int, log: IO[bytes], user: str | None = None) -> None:
        self._command, self._port, self._log, self._user = command, port, log, user
        self._process: Process | None = None

    def start(self) -> None:
        """Returns when it takes connections; after a kill the first try may find its forerunner's memory in use."""
        self._spawn()
        until(self._is_up, f"{self._command[0]} does not start")

    def kill(self) -> None:
        """All at once, as a power cut would: PostgreSQL's own processes leave its process group."""
        if self._process is None:
            return
        for pid in (self._process.pid, *descendants(self._process.pid)):
            _kill(pid)
        self._process.wait(10)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            self._command, user=self._user, stdout=self._log, stderr=self._log, start_new_session=True, cwd="/"
        )

    def _is_up(self) -> bool:
        if self._process and self._process.poll() is not None:
            self._spawn()
        return servers.answers(self._port)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it was faster


class PostgreSQL(Server):
    def __init__(self, folder: Path, log: IO[bytes]) -> None:
        initdb, server = servers.program("initdb"), servers.program("postgres")
        if not (initdb and server):
            raise FileNotFoundError("PostgreSQL is not installed")
        user, port = servers.unprivileged_user(), free_port()
        folder.mkdir()
        if user:
            shutil.chown(folder, user)
        words = [initdb, "-D", f"{folder}/data", "-U", "clawdbot", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(words, user=user, check=True, stdout=log, stderr=log, cwd="/")
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=on", "-c", "max_connections=300"]
        super().__init__(
            [server, "-D", f"{folder}/data", "-p", str(port), "-k", str(folder), *options], port, log, user
        )
        self.url = f"postgres://clawdbot@127.0.0.1:{port}/postgres"


class Redis(Server):
    """Without a file: each kill empties it, which is the worst that may happen to it."""

    def __init__(self, folder: Path, log: IO[bytes]) -> None:
        server = servers.program("redis-server")
        if not server:
            raise FileNotFoundError("Redis is not installed")
        port = free_port()
        super().__init__(
            [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""], port, log
        )
        self.url = f"redis://127.0.0.1:{port}/0"


def _end(processes: list[Process]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(10)
        if process.stdin:
            process.stdin.close()


class Crew:
    """Web, workers and scheduler. Whoever ends is replaced at once by a spare that has loaded everything already."""

    def __init__(self, env: dict[str, str], log: IO[bytes]) -> None:
        self._env, self._log = env, log
        self._members: dict[int, tuple[str, Process]] = {}
        self._spares: defaultdict[str, list[Process]] = defaultdict(list)
        self._guard = threading.RLock()
        self._is_closed = threading.Event()
        self.unasked: list[tuple[str, int]] = []  # kind and exit status of those that ended by themselves
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def load(self) -> None:
        """Everybody loads the product, and waits for the word."""
        for kind, count in MEMBERS.items():
            self._spares[kind] = [self._spawn(kind) for _ in range(count)]

    def start(self) -> None:
        for kind, count in MEMBERS.items():
            for _ in range(count):
                self._begin(kind)

    def supervise(self) -> None:
        """From now on each kind has a spare, and who ends by itself is replaced too."""
        with self._guard:
            for kind in MEMBERS:
                self._spares[kind].append(self._spawn(kind))
        self._supervisor.start()

    def kind_of(self, pid: int) -> str:
        with self._guard:
            return self._members[pid][0]

    def pids(self, kind: str) -> list[int]:
        with self._guard:
            return [pid for pid, (its, _) in self._members.items() if its == kind]

    def kill(self, pid: int) -> None:
        with self._guard:
            kind, process = self._members.pop(pid)
            _end([process])
            self._begin(kind)
            self._spares[kind].append(self._spawn(kind))

    def close(self) -> None:
        self._is_closed.set()
        if self._supervisor.ident:
            self._supervisor.join()
        with self._guard:
            everybody = [process for _, process in self._members.values()]
            everybody += itertools.chain.from_iterable(self._spares.values())
        _end(everybody)

    def _spawn(self, kind: str) -> Process:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.process", kind],
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _begin(self, kind: str) -> None:
        process = self._spares[kind].pop() if self._spares[kind] else self._spawn(kind)
        assert process.poll() is None, f"a spare {kind} ended with {process.returncode}, see the site's log"
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        self._members[process.pid] = kind, process

    def _supervise(self) -> None:
        while not self._is_closed.wait(0.2):
            with self._guard:
                ended = [(kind, its) for kind, its in self._members.values() if its.poll() is not None]
                for kind, process in ended:
                    self.unasked.append((kind, process.returncode))
                    del self._members[process.pid]
                    _end([process])
                    self._begin(kind)
