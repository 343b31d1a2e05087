"""Rule U4 on PostgreSQL: the running site's role may read and add audit rows; the owner migrates and purges."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.db import connection

# Its site has a database of its own: once, in the run on SQLite, is enough.
pytestmark = pytest.mark.skipif(connection.vendor == "postgresql", reason="was run on SQLite's turn")
ROOT = Path(__file__).resolve().parents[2]
LOG, SEALS, CHECKPOINTS = "monitoring_auditlog", "monitoring_auditseal", "monitoring_auditcheckpoint"
FILL = """
from datetime import timedelta
from django.utils import timezone
from monitoring import sealer
from monitoring.models import AuditLog
for days in (500, 500, 1):
    AuditLog(action="bot.changed", actor_kind="system", created_at=timezone.now() - timedelta(days=days)).save()
    sealer.run()
"""
PURGE = "from monitoring import retention; print(retention.purge_if_due())"


class Site:
    """An installation with two roles in a database of its own; commands run as its own processes."""

    def __init__(self, url: str, folder: Path) -> None:
        name = f"roles_{secrets.token_hex(4)}"
        self.owner, self.runtime = f"owner_{name}", f"runtime_{name}"
        with psycopg.connect(url, autocommit=True) as admin:
            for role in (self.owner, self.runtime):
                admin.execute(f'CREATE ROLE "{role}" LOGIN')
            admin.execute(f'CREATE DATABASE "{name}" OWNER "{self.owner}"')
        host = url.rpartition("@")[2].rpartition("/")[0]
        self.urls = {role: f"postgres://{role}@{host}/{name}" for role in (self.owner, self.runtime)}
        self.env = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.base",
            "CLAWDBOT_DATA_DIR": str(folder),
            "SECRET_KEY": secrets.token_urlsafe(64),
            "FIELD_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
            "DATABASE_URL": self.urls[self.runtime],
            "DATABASE_OWNER_URL": self.urls[self.owner],
        }

    def manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def try_as_runtime(self, statement: str) -> None:
        with psycopg.connect(self.urls[self.runtime]) as line:
            line.execute(statement)


@pytest.fixture(scope="module")
def site(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(postgres_url, tmp_path_factory.mktemp("two-roles"))
    site.manage("migrate", "-v", "0")
    return site


@pytest.mark.parametrize("table", [LOG, SEALS, CHECKPOINTS])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET {column} = {column}",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "ALTER TABLE {table} DISABLE TRIGGER USER",
        "DROP TABLE {table}",
        "DROP TRIGGER {table}_no_change ON {table}",
    ],
)
@pytest.mark.rule("U4")
def test_the_running_site_cannot_change_audit_rows(site, table, statement):
    column = {LOG: "action", SEALS: "hash", CHECKPOINTS: "statement"}[table]

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        site.try_as_runtime(statement.format(table=table, column=column))


@pytest.mark.long
def test_the_running_site_writes_seals_signs_and_verifies(site):
    site.manage("shell", "-v", "0", "-c", FILL)
    site.manage("audit", "checkpoint")
    said = site.manage("audit", "verify")

    assert "OK: " in said
    assert "own database role may change" not in said


@pytest.mark.long
def test_a_purge_runs_as_the_owner(site):
    said = site.manage("shell", "-v", "0", "-c", PURGE)

    assert "Purge(through=" in said
    with psycopg.connect(site.urls[site.runtime]) as line:
        old = line.execute(f"SELECT count(*) FROM {LOG} WHERE created_at < now() - interval '400 days'").fetchone()
    assert old == (0,)
    site.manage("audit", "checkpoint")
    assert "OK: " in site.manage("audit", "verify")
