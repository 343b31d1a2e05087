"""Rules in several processes: live within two seconds, and kept when the database is lost (rule N5)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection

from clawdbot_site.security.models import IPRule
from tests.servers.site import ROOT, until

VISITOR = "198.51.100.7"


class Follower:
    def __init__(self, database: Path) -> None:
        env = {**os.environ, "DATABASE_URL": f"sqlite:///{database}", "REDIS_URL": "", "LOG_LEVEL": "ERROR"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.follower"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def verdict(self) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{VISITOR}\n")
        self.process.stdin.flush()
        return self.line()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def copy_of_the_database(folder: Path) -> Path:
    """A database of our own, to be lost."""
    path = folder / "rules.sqlite3"
    connection.ensure_connection()
    with closing(sqlite3.connect(path)) as copy:
        connection.connection.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")
    return path


def write(database: Path, rule: IPRule) -> None:
    """As another process would."""
    now = datetime.now(UTC).isoformat(" ")
    names = "id, action, network, scope, note, hits, revision, is_dry_run, is_automatic, created_at, updated_at"
    values = (rule.pk.hex, rule.action, rule.network, rule.scope, "", 0, rule.revision, False, False, now, now)
    with closing(sqlite3.connect(database)) as db:
        db.execute(f"INSERT INTO security_iprule ({names}) VALUES ({', '.join('?' * len(values))})", values)
        db.commit()


def tell(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


@pytest.mark.rule("N5")
@pytest.mark.django_db(transaction=True)
def test_a_change_is_live_in_every_process_within_two_seconds_and_survives_the_database(tmp_path):
    database = copy_of_the_database(tmp_path)
    followers = [Follower(database), Follower(database)]
    try:
        assert [one.line() for one in followers] == ["ready"] * 2
        assert [one.verdict() for one in followers] == ["no rule"] * 2

        write(database, IPRule(action="block", network=f"{VISITOR}/32", scope="site"))
        began = time.monotonic()
        until(lambda: all(one.verdict() == "blocked" for one in followers), "the rule is not live", 5)
        assert time.monotonic() - began < 2

        tell(database, "ALTER TABLE security_iprule RENAME TO away")  # as if the database answered no more
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert [one.verdict() for one in followers] == ["blocked"] * 2, "the last good list was lost"
            time.sleep(0.1)

        tell(database, "ALTER TABLE away RENAME TO security_iprule", "DELETE FROM security_iprule")
        until(lambda: all(one.verdict() == "no rule" for one in followers), "they do not follow any more", 5)
    finally:
        for one in followers:
            one.close()
