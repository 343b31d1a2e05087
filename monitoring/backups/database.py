"""A consistent copy of the database while the site runs, and back: SQLite's own backup, or pg_dump and pg_restore."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from django.db import connection

FILE_NAMES: Final = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
FOLDERS: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")  # off the PATH on Debian and RHEL


class BackupError(Exception):
    """The backup, or its way back, is not possible; the message says what to do. Nothing was changed."""


def dump(folder: Path) -> Path:
    """Write the database into ``folder`` and return the file. Raises BackupError."""
    target = folder / FILE_NAMES[connection.vendor]
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        _dump_sqlite(target)
    else:
        _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")
    return target


def load(folder: Path) -> None:
    """Fill the empty database of the settings from ``folder``. Raises BackupError."""
    source = folder / FILE_NAMES[connection.vendor]
    if not source.exists():
        raise BackupError(
            f"{folder} is a backup of another kind of database: set DATABASE_URL to the one it came from."
        )
    if tables():
        raise BackupError(
            "The database is not empty. Restore into a new one: another DATABASE_URL or CLAWDBOT_DATA_DIR."
        )
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as copy:
            copy.backup(connection.connection)
    else:
        _run("pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(source))


def tables() -> list[str]:
    connection.ensure_connection()
    return connection.introspection.table_names()


def _dump_sqlite(target: Path) -> None:
    """In one step, so that writers cannot make it begin anew; then looked through: a broken copy is none."""
    with closing(sqlite3.connect(target)) as copy:
        connection.connection.backup(copy, pages=-1)
        (verdict,) = copy.execute("PRAGMA quick_check").fetchone()
    if verdict != "ok":
        raise BackupError(f"The copy of the database is broken: {verdict}. Look at the disk.")


def _run(name: str, *words: str) -> None:
    """One of PostgreSQL's programs on the database of the settings; the password goes by its environment."""
    params: dict[str, Any] = connection.settings_dict
    env = {
        "PATH": os.environ.get("PATH", ""),
        "PGHOST": params["HOST"],
        "PGPORT": str(params["PORT"] or 5432),
        "PGUSER": params["USER"],
        "PGPASSWORD": params["PASSWORD"],
        "PGDATABASE": params["NAME"],
    }
    target = [f"--dbname={params['NAME']}"] if name == "pg_restore" else []
    done = subprocess.run(  # noqa: S603  (PostgreSQL's own program, words of our own)
        [_program(name), *target, *words], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BackupError(f"{name} failed: {reason}")


def _program(name: str) -> str:
    """The newest there is: a program older than its server refuses."""
    places = [path for pattern in FOLDERS for path in Path("/").glob(f"{pattern[1:]}/{name}")]
    found = str(max(places, key=_version)) if places else shutil.which(name)
    if found is None:
        raise BackupError(f"{name} is not installed: it comes with PostgreSQL's client package.")
    return found


def _version(program: Path) -> float:
    digits = program.parent.parent.name.removeprefix("pgsql-")
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0
