"""``manage.py listen`` as real processes beside PostgreSQL: one holds, one stands by; one is killed, one is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integrations.dingtalk.fake_gateway import FakeGateway, message
from tests.servers.site import ROOT, Site

from .conftest import production_env

ENDPOINT = """
from tests import factories
credential = factories.credential("dingtalk", app_id="{0.app_id}", app_secret="{0.app_secret}", base_url="{0.api_url}")
factories.endpoint(credential=credential, mode="stream")
"""


class Listeners:
    """Processes of ``manage.py listen`` on one database."""

    def __init__(self, site: Site) -> None:
        self.site, self.processes = site, [self._start(site), self._start(site)]

    def _start(self, site: Site) -> subprocess.Popen[bytes]:
        with site.log_path.open("ab") as log:
            command = [sys.executable, "manage.py", "listen"]
            return subprocess.Popen(command, cwd=ROOT, env=site.env, stdout=log, stderr=log)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.site.env["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def holder(self) -> subprocess.Popen[bytes]:
        [(name,)] = self.query("SELECT holder FROM bots_longconnection")
        return next(one for one in self.processes if one.pid == int(name.split(":")[1]))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as running:
        yield running
        assert running.oddities == []


@pytest.fixture
def production(own_redis: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data", **production_env(own_redis))
    made.data_dir.mkdir()
    made.manage("migrate")
    yield made
    made.close()


async def test_a_killed_listener_is_replaced_and_a_stopped_one_leaves_at_once(production, gateway):
    await asyncio.to_thread(production.manage, "shell", "-c", ENDPOINT.format(gateway))
    listeners = Listeners(production)
    try:
        await gateway.until(lambda: gateway.live, 30)
        await asyncio.sleep(3)  # both have looked
        assert len(gateway.lines) == 1
        assert (await gateway.acked(await gateway.push(message("你好", "m1"))))["code"] == 200

        killed = await asyncio.to_thread(listeners.holder)
        killed.send_signal(signal.SIGKILL)
        await gateway.until(lambda: len(gateway.lines) == 2 and gateway.live, 14)
        assert (await gateway.acked(await gateway.push(message("你好", "m1"))))["code"] == 200
        assert listeners.query("SELECT external_id FROM bots_message") == [("m1",)]

        listeners.query("UPDATE bots_endpoint SET is_enabled = false")
        await gateway.until(lambda: not gateway.open, 5)
        listeners.query("UPDATE bots_endpoint SET is_enabled = true")
        await gateway.until(lambda: gateway.live, 5)

        [last] = [one for one in listeners.processes if one is not killed]
        started = time.monotonic()
        last.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(last.wait, 10) == 0, production.log[-3000:]
        assert time.monotonic() - started < 4
        await gateway.until(lambda: not gateway.open)
        assert listeners.query("SELECT holder, state FROM bots_longconnection") == [("", "idle")]
    finally:
        listeners.close()


def test_listen_beside_the_embedded_mode_is_refused(tmp_path):
    env = {"PATH": os.environ["PATH"], "CLAWDBOT_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "manage.py", "listen"]

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "`make run` holds the long connections itself" in done.stderr
    assert "Traceback" not in done.stderr
