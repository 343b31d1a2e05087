"""How a site ends and begins: requests in flight are answered, and a socket that was handed over refuses nobody."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from tests.servers.model_service import ModelService, Script
from tests.servers.site import ROOT, Site, until

from .conftest import production_env

REQUESTS = 20


class HandedOver(Site):
    """Started by somebody who holds its socket, as systemd does."""

    def __init__(self, data_dir: Path, **env: str) -> None:
        super().__init__(data_dir, **env)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.env["CLAWDBOT_PORT"] = str(self.port)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.settimeout(30)
        self.manager.bind(str(data_dir.with_name("notify")))
        self.env["NOTIFY_SOCKET"] = str(data_dir.with_name("notify"))

    def begin(self) -> subprocess.Popen[bytes]:
        fd = self.socket.fileno()
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--fd", str(fd)],
                cwd=ROOT, env=self.env, stdout=log, stderr=log, pass_fds=[fd], start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process


@pytest.fixture(scope="module")
def service() -> Iterator[ModelService]:
    with ModelService() as running:
        running.script(Script(wait_s=1.5))
        yield running


@pytest.fixture(scope="module")
def site(service: ModelService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandedOver]:
    env = {"MODEL_ENDPOINT": service.base_url, "MODEL_API_KEY": service.api_key, "MODEL_NAME": "m"}
    made = HandedOver(tmp_path_factory.mktemp("ending") / "data", **env)
    try:
        yield made
    finally:
        made.close()
        made.socket.close()
        made.manager.close()


def asked(site: Site, headers: dict[str, str], number: int) -> tuple[int, Any]:
    """One question by a connection of its own, answered or cut off."""
    body = json.dumps({"text": f"question {number}", "user": f"user-{number}"})
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=40)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/api/v1/bots/demo/messages/", body, {**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    return 0, None


def livez(site: Site) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=40)
    with closing(connection):
        connection.request("GET", "/livez")
        return connection.getresponse().status


def test_requests_in_flight_are_answered_and_later_ones_wait_for_the_next_start(
    site: HandedOver, service: ModelService
) -> None:
    first = site.begin()
    site.wait()
    with site.rest() as rest:
        rest.patch("bots/demo/", json={"rate_limit_per_user_per_minute": 0}).raise_for_status()
        headers = {"Authorization": rest.headers["Authorization"]}

    with ThreadPoolExecutor(REQUESTS + 1) as pool:
        answers = [pool.submit(asked, site, headers, number) for number in range(REQUESTS)]
        until(lambda: len(service.requests) >= 10, "no question reaches the model")
        first.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # it accepts nobody any more, and is not gone yet
        late = pool.submit(livez, site)
        assert [answer.result(40)[0] for answer in answers] == [200] * REQUESTS
        assert not late.done()
        assert first.wait(40) == 0
        assert [site.manager.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]
        site.processes.clear()
        site.begin()
        assert late.result(60) == 200


def test_doctor_finds_the_running_site_whole(site: HandedOver) -> None:
    shown = site.manage("doctor")

    assert [line for line in shown.splitlines() if line.startswith("BROKEN")] == []
    assert "The workers are part of the site, which runs." in shown
    assert "The scheduler works." in shown
    assert "remote: It answers." in shown


@pytest.mark.long
def test_a_scheduler_that_is_told_to_end_within_a_statement_ends(own_redis: str, tmp_path: Path) -> None:
    site = Site(tmp_path / "data", **production_env(own_redis))
    site.data_dir.mkdir()
    site.manage("migrate")
    try:
        site.spawn("-m", "celery", "-A", "clawdbot_site", "beat", "--pidfile=")
        with psycopg.connect(site.env["DATABASE_URL"], autocommit=True) as connection:
            until(lambda: _count(connection, "FROM django_celery_beat_periodictask"), "it knows no schedule")
            time.sleep(3)  # it has run some of it, and means to note that
            with connection.transaction():
                connection.execute("LOCK TABLE django_celery_beat_periodictasks")
                until(lambda: _count(connection, "FROM pg_locks WHERE NOT granted"), "it does not look again")
                site.processes[0].terminate()
                time.sleep(0.5)
        assert site.processes[0].wait(10) == 0
    finally:
        site.close()


def _count(connection: psycopg.Connection, rows: LiteralString) -> int:
    return int(connection.execute("SELECT count(*) " + rows).fetchall()[0][0])


def test_a_descriptor_that_is_no_socket_is_said_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "up", "--fd", "97"]
    env = {"CLAWDBOT_DATA_DIR": str(tmp_path / "data")}

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "--fd 97 is no listening socket" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
