"""The site under test in the production shape, with servers, platforms and a folder of its own, and its books."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Self

import httpx
import psycopg

from tests.chaos.crew import Crew, PostgreSQL, Redis, Server
from tests.chaos.judge import Shown
from tests.servers.site import ROOT, free_port, until

WAITING = "role = 'user' AND status IN ('received', 'answering', 'answered')"
INHERITED = ("PATH", "HOME", "LANG")


class ChaosSite:
    """``without`` names the safeguard that is switched off, ``gateway`` the WebSocket of a long connection; or none."""

    root = ROOT  # the tree whose code runs

    def __init__(self, folder: Path, without: str = "", gateway: str = "") -> None:
        self.folder, self._without, self._gateway = folder, without, gateway
        self.port, self.secret = free_port(), secrets.token_urlsafe(24)
        self.servers: dict[str, Server] = {}
        self._stack = ExitStack()
        for name in ("armed", "held", "data"):
            (folder / name).mkdir()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        log = stack.enter_context((self.folder / "site.log").open("ab"))
        postgres, redis = PostgreSQL(self.folder / "postgres", log), Redis(self.folder, log)
        self._database = postgres.url
        self.platform_url = stack.enter_context(_fake_platforms(self.folder, self._gateway))
        env = self._env(redis.url)
        for name, server in (("postgres", postgres), ("redis", redis)):
            stack.callback(server.kill)
            server.start()
            self.servers[name] = server
        self._begin(stack, env, log)

    def _begin(self, stack: ExitStack, env: dict[str, str], log: IO[bytes]) -> None:
        self.crew = Crew(env, log)
        stack.callback(self.crew.close)
        self.crew.load()
        self.keys = self._set_up(env)
        self.crew.start()
        until(self.is_ready, f"the site does not start, see {self.folder}/site.log", 60)
        self.crew.supervise()

    def _env(self, redis_url: str) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.production",
            "CLAWDBOT_DATA_DIR": str(self.folder / "data"),
            "CLAWDBOT_PORT": str(self.port),
            "OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8",
            "NO_PROXY": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            "LANGUAGE_CODE": "en",
            "DATABASE_URL": self._database,
            "REDIS_URL": redis_url,
            "SECRET_KEY": secrets.token_urlsafe(64),
            "FIELD_ENCRYPTION_KEYS": secrets.token_urlsafe(32) + "=",
            "CHAOS_FOLDER": str(self.folder),
            "CHAOS_PLATFORM": self.platform_url,
            "CHAOS_SECRET": self.secret,
            "CHAOS_WITHOUT": self._without,
            "CHAOS_GATEWAY": self._gateway,
        }

    def _set_up(self, env: dict[str, str]) -> dict[str, str]:
        command = [sys.executable, "-m", "tests.chaos.process", "setup"]
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        keys: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return keys

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    # -- the books --

    def ask(self, query: str) -> list[tuple[str, ...]]:
        """Rows from the database; none while it is down."""
        try:
            with psycopg.connect(self._database, autocommit=True, connect_timeout=2) as connection:
                return [tuple(map(str, row)) for row in connection.execute(query).fetchall()]
        except psycopg.OperationalError:
            return []

    def waiting(self) -> list[str] | None:
        """The platforms' ids of what is not settled; None when the database does not say."""
        rows = self.ask(f"SELECT '' UNION ALL SELECT external_id FROM bots_message WHERE {WAITING}")
        return [row[0] for row in rows if row[0]] if rows else None

    def statuses(self) -> dict[str, str]:
        rows = self.ask("SELECT external_id, status FROM bots_message WHERE role = 'user'")
        return {tag_of(name): status for name, status in rows}

    def interrupted(self) -> set[str]:
        """Tags of messages whose holder began to send and never wrote the outcome into the database."""
        lines = (self.folder / "sends.log").read_text("ascii").splitlines()
        begun, ended = ({line[2:] for line in lines if line[0] == event} for event in "BE")
        open_replies = {holder.partition(" ")[0] for holder in begun - ended}
        replies = "SELECT r.id, q.external_id FROM bots_message r JOIN bots_message q ON r.reply_to_id = q.id"
        return {tag_of(name) for reply_id, name in self.ask(replies) if reply_id in open_replies}

    def shown(self) -> list[Shown]:
        """What people see, in the end, in every chat."""
        items: dict[str, Shown] = {}
        for line in (self.folder / "seen.jsonl").read_text("utf-8").splitlines():
            seen = json.loads(line)
            first_s = items[seen["item"]].first_s if seen["item"] in items else seen["at"]
            items[seen["item"]] = Shown(seen["chat"], seen["text"], first_s, seen["at"] if seen["done"] else None)
        return list(items.values())


def tag_of(external_id: str) -> str:
    return external_id.partition("_")[2]


@contextmanager
def _fake_platforms(folder: Path, gateway: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.chaos.fake", str(folder / "seen.jsonl"), gateway]
    with (folder / "platforms.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
            process.wait(10)
            process.stdin.close()
            process.stdout.close()
