"""The real site as real processes, for end-to-end tests: embedded, or in the production shape."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import httpx
import psycopg

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a-password-of-the-tests"
T = TypeVar("T")


def until(check: Callable[[], T], what: str, limit_s: float = 30.0) -> T:
    end = time.monotonic() + limit_s
    while not (value := check()):
        assert time.monotonic() < end, f"after {limit_s:.0f} s: {what}"
        time.sleep(0.05)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_database(server: str, prefix: str) -> str:
    """An empty database on this PostgreSQL; returns its address."""
    name = f"{prefix}_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server.rpartition('/')[0]}/{name}"


class Site:
    """One instance with its own data folder and port. ``extra`` processes belong to the production shape."""

    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir, self.port = data_dir, free_port()
        self.log_path = data_dir.with_suffix(".log")
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.env = {
            **inherited,
            "CLAWDBOT_DATA_DIR": str(data_dir),
            "CLAWDBOT_PORT": str(self.port),
            "CLAWDBOT_ADMIN_PASSWORD": PASSWORD,
            "OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8",
            "NO_PROXY": "127.0.0.1",
            "MFA_REQUIRED_ROLES": "none",  # as embedded; else the production shape asks the tests for codes
            "PYTHONUNBUFFERED": "1",
            **env,
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def start(self) -> Self:
        self.spawn("manage.py", "up")
        return self.wait()

    def wait(self, limit_s: float = 60.0) -> Self:
        until(self._is_ready, "the site does not answer", limit_s)
        return self

    def start_production(self) -> Self:
        """The site, a worker for each kind of work and the scheduler as processes of their own."""
        self.manage("migrate")
        self.spawn("manage.py", "up")
        worker = ("-m", "celery", "-A", "clawdbot_site", "worker", "-P", "threads", "-c", "8")
        self.spawn(*worker, "-Q", "inference", "-n", "inference@%h")
        self.spawn(*worker, "-Q", "delivery,default", "-n", "delivery@%h")
        self.spawn("-m", "celery", "-A", "clawdbot_site", "beat")
        return self.wait()

    def _is_ready(self) -> bool:
        dead = [p for p in self.processes if p.poll() is not None]
        assert not dead, f"a process ended with {dead[0].returncode}:\n{self.log[-3000:]}"
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def spawn(self, *words: str) -> None:
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)

    def manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self) -> None:
        """As a power cut would."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self.processes.clear()

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(40)
        self.processes.clear()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    # -- as an integrator --

    def rest(self) -> httpx.Client:
        given = {"username": "admin", "password": PASSWORD}
        answer = httpx.post(f"{self.url}/api/v1/auth/token/", json=given, trust_env=False)
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access']}"}
        return httpx.Client(base_url=f"{self.url}/api/v1/", headers=headers, trust_env=False, timeout=30)


def create(rest: httpx.Client, path: str, **body: object) -> dict[str, object]:
    answer = rest.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def random_name() -> str:
    return f"x{secrets.token_hex(4)}"


def ready_line(log: str) -> re.Match[str] | None:
    return re.search(r"ClawdBot is ready: (http://\S+/admin/)", log)
