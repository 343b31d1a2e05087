"""Rules E9 and A3 with real processes on PostgreSQL: re-encryption killed under writes, rotations under traffic.

What threads can show in seconds is in test_keys_command.py and tokens/test_signing_keys.py.
"""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from django.db import connection

from tests.servers.site import ROOT, Site, create, new_database

# They have a database of their own: once, in the run on SQLite, is enough.
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(connection.vendor == "postgresql", reason="was run on SQLite's turn"),
]
ROWS, KILLS, WRITERS = 400, 20, 2
BY_KEY = "SELECT k.state, count(*) FROM security_datakey k WHERE k.purpose = 'encrypt' GROUP BY 1"
UNDER_OLD = (
    "SELECT count(*) FROM security_signingkey s WHERE length(private_pem) > 0 AND substr(private_pem, 1, 5) <> "
    "(SELECT '\\x01'::bytea || decode(lpad(to_hex(key_id), 8, '0'), 'hex') FROM security_datakey"
    " WHERE purpose = 'encrypt' AND state = 'primary')"
)


def own_database(server: str) -> dict[str, str]:
    return {
        "DATABASE_URL": new_database(server, "keys"),
        "SECRET_KEY": secrets.token_urlsafe(64),
        "FIELD_ENCRYPTION_KEYS": secrets.token_urlsafe(32) + "=",
    }


class Keeping:
    """Writers at work on one database, and what they noted."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        filling = self.run("fill", str(ROWS))
        assert filling.communicate() == (b"", None)
        self.writers = [self.run("write", str(folder), str(part), str(WRITERS)) for part in range(WRITERS)]

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.security.secret_keeping", *words]
        return subprocess.Popen(command, cwd=ROOT, env=self.site.env, stdout=subprocess.PIPE)

    def stop(self) -> None:
        for writer in self.writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            assert writer.stdout
            writer.stdout.close()

    def noted(self) -> dict[str, int]:
        """The last number of each row that a writer has noted."""
        lines = [line for path in self.folder.glob("written-*") for line in path.read_text().splitlines()]
        return {kid: int(number) for kid, number in (line.split() for line in lines if line.count(" ") == 1)}

    def failures(self) -> list[str]:
        return [line for path in self.folder.glob("failed-*") for line in path.read_text().splitlines()]

    def stored(self) -> dict[str, int]:
        said = self.site.manage(
            "shell",
            "-v",
            "0",
            "-c",
            "from clawdbot_site.security.models import SigningKey as K\n"
            "for row in K.objects.filter(state='retired'): print(row.kid, row.private_pem.split()[1])",
        )
        return {kid: int(number) for kid, number in (line.split() for line in said.splitlines() if line)}


@pytest.fixture
def keeping(postgres_url: str, tmp_path: Path) -> Iterator[Keeping]:
    site = Site(tmp_path / "data", **own_database(postgres_url))
    site.manage("migrate", "-v", "0")
    made = Keeping(site, tmp_path)
    yield made
    made.stop()


@pytest.mark.rule("E9")
def test_re_encryption_killed_twenty_times_under_writes_loses_nothing(keeping: Keeping) -> None:
    dice, cut = random.Random(9), 0
    for _ in range(KILLS):
        mover = keeping.run("move")
        assert mover.stdout
        assert mover.stdout.readline() == b"moving\n"
        time.sleep(dice.uniform(0.0, 0.5))
        mover.send_signal(signal.SIGKILL)
        cut += mover.wait() == -signal.SIGKILL
        mover.stdout.close()
    last = keeping.run("move")
    assert last.wait() == 0
    assert last.stdout
    last.stdout.close()
    keeping.stop()

    assert keeping.failures() == []
    assert cut > KILLS / 2
    noted, stored = keeping.noted(), keeping.stored()
    assert len(noted) > ROWS / 4
    for kid, number in noted.items():  # a writer that was killed after its commit could not note it
        assert stored[kid] >= number, kid
    assert sum(stored[kid] > number for kid, number in noted.items()) <= WRITERS
    keeping.site.manage("keys", "reencrypt")  # what writers with the former key wrote meanwhile
    with psycopg.connect(keeping.site.env["DATABASE_URL"]) as line:
        assert line.execute(UNDER_OLD).fetchone() == (0,)
        assert dict(line.execute(BY_KEY).fetchall()) == {"primary": 1, "retired": KILLS + 1}


# -- rotations under traffic --


class Traffic:
    """Clients that read credentials and bots by tokens of their own, at several processes of one site."""

    def __init__(self, jobs: list[tuple[str, str]]) -> None:
        """``jobs``: the address of a process, and a refresh token for its client alone."""
        self.statuses: Counter[int] = Counter()
        self.unreadable = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def _work(self, url: str, token: str) -> None:
        refresh, headers = token, {}
        renewed_at = 0.0
        with httpx.Client(base_url=f"{url}/api/v1/", trust_env=False, timeout=30) as client:
            while not self._stop.is_set():
                if time.monotonic() - renewed_at > 5:
                    answer = client.post("auth/token/refresh/", json={"refresh": refresh})
                    self.statuses[answer.status_code] += 1
                    if answer.status_code != 200:
                        return
                    refresh, renewed_at = answer.json()["refresh"], time.monotonic()
                    headers = {"Authorization": f"Bearer {answer.json()['access']}"}
                answer = client.get("credentials/", headers=headers)
                self.statuses[answer.status_code] += 1
                self.unreadable += answer.text.count("unreadable")
                time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)


@pytest.mark.rule("A3", "E9")
def test_rotations_under_traffic_fail_no_read_and_refuse_no_token(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    env = {**own_database(postgres_url), "REDIS_URL": redis_url}
    first, second = Site(tmp_path / "data", **env), Site(tmp_path / "data2", **env)
    try:
        first.start()
        second.start()
        with first.rest() as rest:
            secret = {"app_secret": "a-secret", "verification_token": "a-token", "encrypt_key": "a-key"}
            create(rest, "credentials/", name="App", platform="feishu", app_id="cli_1", **secret)
        given = {"username": "admin", "password": first.env["CLAWDBOT_ADMIN_PASSWORD"]}
        tokens = [httpx.post(f"{first.url}/api/v1/auth/token/", json=given, trust_env=False).json() for _ in range(4)]
        urls = [first.url, second.url] * 2
        traffic = Traffic([(url, token["refresh"]) for url, token in zip(urls, tokens, strict=True)])
        for turn in range(2):
            time.sleep(5 if turn == 0 else 62)  # a ring is read again each minute
            first.manage("keys", "rotate")
            first.manage("keys", "reencrypt")
            with psycopg.connect(env["DATABASE_URL"], autocommit=True) as line:
                line.execute("UPDATE security_signingkey SET created_at = created_at - interval '2 minutes'")
            first.manage("keys", "rotate", "--kind", "tokens")
        time.sleep(8)
        traffic.stop()
    finally:
        for site in (first, second):
            site.close()

    assert set(traffic.statuses) == {200}, first.log + second.log
    assert traffic.statuses[200] > 1000
    assert traffic.unreadable == 0
