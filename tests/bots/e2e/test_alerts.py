"""The alert walk-through: what breaks is told within a minute, in the admin and in the operators' chat, and ends.

Real processes, PostgreSQL and Redis; the platforms and the model service are fakes on real sockets.
"""

from __future__ import annotations

import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bots.e2e.talking import Talk
from tests.chaos.crew import PostgreSQL, Redis
from tests.conftest import server_url
from tests.integrations.dingtalk.fake_dingtalk import ROBOT, FakeDingTalk
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService
from tests.servers.site import PASSWORD, Site, create, until

TOLD_S = 60.0  # the promise
OVER_S = 150.0  # the next check by the scheduler, then two looks
ROBOT_TOKEN, ROBOT_SECRET = "exampletoken0123456789", "SECsecret"


class Door:
    """Passes connections on to a server, or closes each at once."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
        self._target, self.is_open = (host, int(port)), True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_open:
                client.close()
                continue
            server = socket.create_connection(self._target)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        self._listener.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)  # and so the other direction ends, too
    source.close()


class Admin:
    """A browser of somebody who is signed in."""

    def __init__(self, site: Site) -> None:
        self.http = httpx.Client(base_url=site.url, trust_env=False, timeout=30, follow_redirects=True)
        self.post("/admin/login/?next=/admin/", "/admin/login/", username="admin", password=PASSWORD)

    def post(self, address: str, form: str = "", **data: str) -> httpx.Response:
        page = self.http.get(form or address).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, page[:500]
        answer = self.http.post(address, data={**data, "csrfmiddlewaretoken": token[1]})
        assert answer.status_code == 200, answer.text[:500]
        return answer

    def channel(self, robot: str) -> httpx.Response:
        """Make one, and press its test button."""
        fields = {"name": "Operators", "kind": "robot", "robot": robot, "is_enabled": "on"}
        more = {"least_severity": "warning", "interval_s": "15", "remind_after_h": "24", "_continue": "1"}
        made = self.post("/admin/monitoring/alertchannel/add/", **fields, **more)
        page = made.url.path
        return self.post(page.replace("change", "test"), page)


@pytest.fixture
def platform() -> Iterator[FakeDingTalk]:
    with FakeDingTalk(robots={ROBOT_TOKEN: ROBOT_SECRET}) as fake:
        yield fake


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder into which PostgreSQL's user may look as well; pytest's own are closed to it."""
    with tempfile.TemporaryDirectory(prefix="clawdbot-alerts-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A folder on a disk of its own, where this user may mount one."""
    folder = place / "logs"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    is_mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder
    if is_mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Stage:
    """A whole site, and what it stands on."""

    def __init__(self, place: Path, platform: FakeDingTalk, logs: Path, service: ModelService) -> None:
        server_url("TEST_POSTGRES_URL", "PostgreSQL")
        self.log = (place / "servers.log").open("wb")
        self.postgres, self.redis = PostgreSQL(place / "postgres", self.log), Redis(place, self.log)
        self.platform, self.logs = platform, logs
        self.door = Door(service.base_url)
        self.postgres.start()
        self.redis.start()
        self.site = Site(
            place / "data",
            DATABASE_URL=self.postgres.url,
            REDIS_URL=self.redis.url,
            SECRET_KEY=secrets.token_urlsafe(64),
            FIELD_ENCRYPTION_KEYS=secrets.token_urlsafe(32) + "=",
            MODEL_ENDPOINT=f"http://127.0.0.1:{self.door.port}/v1",
            MODEL_API_KEY=service.api_key,
            MODEL_NAME="m",
            DINGTALK_OAPI_URL=platform.oapi_url,
            LOG_DIR=str(logs),
            LOG_ROTATION="external",
            LANGUAGE_CODE="en",
        )
        self.site.data_dir.mkdir()
        self.site.manage("collectstatic", "--noinput")
        self.site.start_production()
        self.admin = Admin(self.site)

    def close(self) -> None:
        self.admin.http.close()
        self.site.close()
        self.postgres.kill()
        self.redis.kill()
        self.door.close()
        self.log.close()

    def robot(self) -> str:
        url = f"{self.platform.oapi_url}{ROBOT}?access_token={ROBOT_TOKEN}"
        given = {"name": "Ops", "platform": "dingtalk", "webhook_url": url, "signing_secret": ROBOT_SECRET}
        with self.site.rest() as rest:
            return str(create(rest, "group-robots/", **given)["id"])

    def open(self) -> set[str]:
        with self.site.rest() as rest:
            found: list[dict[str, Any]] = rest.get("alerts/?is_open=true").json()["results"]
        return {alert["rule"] for alert in found}

    def told(self, words: str, since: int = 0) -> bool:
        return any(words in text for _who, text in self.platform.seen[since:])

    def raises(self, expected: dict[str, str], started: float, since: int) -> None:
        """``expected``: rule -> words that the chat reads."""
        while not expected.keys() <= (found := self.open()):
            assert time.monotonic() - started < TOLD_S, f"open: {found}"
            time.sleep(1)
        for words in expected.values():
            left_s = TOLD_S - (time.monotonic() - started)
            until(lambda words=words: self.told(words, since), f"{words}: {self.platform.seen[since:]}", left_s)
        print(f"{', '.join(expected)}: told after {time.monotonic() - started:.0f} s")
        page = self.admin.http.get("/admin/monitoring/alert/?state=open").text
        assert [rule for rule in expected if rule not in page] == []

    def resolves(self, expected: dict[str, str], since: int) -> None:
        end = time.monotonic() + OVER_S
        while expected.keys() & (found := self.open()):
            assert time.monotonic() < end, f"still open: {found}"
            time.sleep(1)
        for words in expected.values():
            until(lambda words=words: self._over(words, since), f"end of {words}: {self.platform.seen[since:]}", 45)

    def _over(self, words: str, since: int) -> bool:
        """The chat reads the last word about each alert as a line of its own."""
        lines = [line for _who, text in self.platform.seen[since:] for line in text.splitlines()]
        return any("Resolved" in line and words in line for line in lines)


@pytest.fixture
def stage(place: Path, platform: FakeDingTalk, small_disk: Path, service: ModelService) -> Iterator[Stage]:
    made = Stage(place, platform, small_disk, service)
    yield made
    print(
        "\n".join(line for line in made.site.log.splitlines() if '"GET ' not in line and '"POST ' not in line)[-6000:]
    )
    made.close()


@pytest.mark.long
def test_what_breaks_is_told_within_a_minute_and_ends(stage: Stage, feishu: FakeFeishu) -> None:
    talk = Talk(stage.site, feishu, reply_mode="text")
    assert "The test message was sent." in stage.admin.channel(stage.robot()).text
    assert stage.told("A test message from ClawdBot")
    talk.say("Hello")
    until(lambda: talk.texts(), "nobody sees an answer")
    until(lambda: not stage.open(), f"open: {stage.open()}", 90)

    _model_credential_and_disk(stage, feishu, talk)
    _clock_and_redis(stage, feishu)
    _postgres(stage)


def _model_credential_and_disk(stage: Stage, feishu: FakeFeishu, talk: Talk) -> None:
    since, started, secret = len(stage.platform.seen), time.monotonic(), feishu.app_secret
    feishu.app_secret = "another"
    feishu.tokens.clear()
    asked = len(feishu.calls)
    talk.say("Hello again")
    until(lambda: any("access_token" in call for call in feishu.calls[asked:]), "nobody asks for a token")
    stage.door.is_open = False
    filler = stage.logs / "filler"
    with suppress(OSError):
        filler.write_bytes(b"x" * (9 << 20))
    expected = {
        "model.down": "The model remote does not answer",
        "credential.down": "its last call failed",
        "machine.disk": "of the disk of",
    }
    stage.raises(expected, started, since)

    stage.door.is_open, feishu.app_secret = True, secret
    filler.unlink(missing_ok=True)
    time.sleep(2)  # so long the app is left alone after its failures
    talk.say("Is it mended?")
    stage.resolves(expected, since)


def _clock_and_redis(stage: Stage, feishu: FakeFeishu) -> None:
    since, started = len(stage.platform.seen), time.monotonic()
    feishu.clock_ahead_s = 600.0
    stage.redis.kill()
    expected = {"platform.clock": "This machine's clock and that of", "redis.down": "Redis cannot be reached"}
    stage.raises(expected, started, since)

    feishu.clock_ahead_s = 0.0
    stage.redis.start()
    stage.resolves(expected, since)


def _postgres(stage: Stage) -> None:
    since, started = len(stage.platform.seen), time.monotonic()
    stage.postgres.kill()
    until(lambda: stage.told("The database takes nothing", since), f"{stage.platform.seen[since:]}", TOLD_S)
    print(f"database.down: told after {time.monotonic() - started:.0f} s")

    stage.postgres.start()
    expected = {"database.down": "The database takes nothing"}
    until(lambda: stage._over(expected["database.down"], since), f"{stage.platform.seen[since:]}", TOLD_S)
    with stage.site.rest() as rest:
        (row,) = rest.get("alerts/?rule=database.down").json()["results"]
    assert (row["severity"], row["closed_at"] is None) == ("critical", False)
