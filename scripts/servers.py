"""Private PostgreSQL and Redis servers for the tests: own data, free ports, gone afterwards.

    python scripts/servers.py COMMAND …    runs COMMAND with TEST_POSTGRES_URL and TEST_REDIS_URL set

Missing programs are installed where that is allowed (root on Debian or Ubuntu). Else the variable stays unset, the
tests that need it say that they are skipped, and with CI=true a skip is a failure (tests/conftest.py).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Data that need not outlive the machine: tests on PostgreSQL take half the time. A killed server still loses nothing.
FORGETFUL = ("-c", "fsync=off", "-c", "full_page_writes=off")
PACKAGES = {
    "redis-server": "redis-server",
    "initdb": "postgresql",
    "chromium": "chromium",
    "nginx": "nginx-light",
    "logrotate": "logrotate",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
}
FOLDERS = ["/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/sbin"]


def program(name: str) -> str | None:
    """Where a server's program is, also off the PATH (where Debian keeps those of PostgreSQL and nginx)."""
    found = shutil.which(name)
    places = (path for pattern in FOLDERS for path in Path("/").glob(pattern.lstrip("/")))
    return found or next((str(place / name) for place in places if (place / name).exists()), None)


def install_missing() -> None:
    missing = sorted({package for name, package in PACKAGES.items() if program(name) is None})
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"Installing {', '.join(missing)} for the tests ...", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=env, check=False, **quiet)  # type: ignore[call-overload]  # from a dict
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    subprocess.run(install, env=env, check=False, **quiet)  # type: ignore[call-overload]  # from a dict


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(check: Callable[[], bool], what: str, limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not check():
        if time.monotonic() > end:
            sys.exit(f"{what} did not start within {limit_s:.0f} s.")
        time.sleep(0.1)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, user: str | None = None) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, user=user, **quiet)  # type: ignore[call-overload]  # from a dict
    try:
        wait_for(lambda: answers(port), command[0])
        yield
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL would wait for its clients after SIGTERM
        process.wait(20)


@contextmanager
def postgres() -> Iterator[str | None]:
    """The address of an empty database, or None where PostgreSQL is not installed."""
    initdb, server = program("initdb"), program("postgres")
    if not (initdb and server):
        yield None
        return
    user = unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="clawdbot-postgres-") as name:
        if user:
            shutil.chown(name, user)
        data, port = f"{name}/data", free_port()
        words = [initdb, "-D", data, "-U", "clawdbot", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(words, user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
        command = [server, "-D", data, "-p", str(port), "-k", name, "-c", "listen_addresses=127.0.0.1", *FORGETFUL]
        with running(command, port, user):
            yield f"postgres://clawdbot@127.0.0.1:{port}/postgres"


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def redis() -> Iterator[str | None]:
    server = program("redis-server")
    if not server:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="clawdbot-redis-") as folder:
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with running(command, port):
            yield f"redis://127.0.0.1:{port}/0"


def main(command: list[str]) -> int:
    install_missing()
    with ExitStack() as stack:
        found = {
            "TEST_POSTGRES_URL": stack.enter_context(postgres()),
            "TEST_REDIS_URL": stack.enter_context(redis()),
        }
        env = {**os.environ, **{name: url for name, url in found.items() if url}}
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
