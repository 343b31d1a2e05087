"""A private PostgreSQL that keeps its commits (fsync, synchronous_commit) and counts its statements, and Redis."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from scripts import servers

STATEMENTS = "pg_stat_statements"
SHOWN = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_connections")


@dataclass(frozen=True, slots=True)
class Postgres:
    url: str  # of the database `postgres`
    counts_statements: bool

    def of(self, name: str) -> str:
        return f"{self.url.rpartition('/')[0]}/{name}"

    def create(self, name: str, template: str = "template1") -> str:
        """A new database, a copy of another one; returns its address."""
        words = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(words)
        return self.of(name)

    def settings(self) -> dict[str, str]:
        """What the server itself says of its settings."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(SHOWN)])
            return {str(name): str(value) for name, value in rows}


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Raises FileNotFoundError where PostgreSQL is not installed."""
    initdb, server = servers.program("initdb"), servers.program("postgres")
    if not (initdb and server):
        raise FileNotFoundError("PostgreSQL is not installed, and could not be: apt install postgresql")
    user = servers.unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="clawdbot-bench-") as folder:
        if user:
            shutil.chown(folder, user)
        words = [initdb, "-D", f"{folder}/data", "-U", "clawdbot", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(words, user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
        port, counts = servers.free_port(), _has_statements(server)
        with servers.running(_command(server, folder, port, counts), port, user):
            yield Postgres(f"postgres://clawdbot@127.0.0.1:{port}/postgres", counts)


def _command(server: str, folder: str, port: int, counts_statements: bool) -> list[str]:
    given = {"listen_addresses": "127.0.0.1", "fsync": "on", "synchronous_commit": "on"}
    if counts_statements:
        given |= {"shared_preload_libraries": STATEMENTS, f"{STATEMENTS}.track": "all"}
    options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
    return [server, "-D", f"{folder}/data", "-p", str(port), "-k", folder, *options]


def _has_statements(server: str) -> bool:
    """Whether the extension lies beside this server; without it PostgreSQL would not start."""
    return any(Path(server).resolve().parents[1].glob(f"lib/**/{STATEMENTS}.so"))
