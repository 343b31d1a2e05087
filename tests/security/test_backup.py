"""Backup, destroy, restore elsewhere: as commands, on real databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from monitoring import audit
from monitoring.backups import folder
from monitoring.backups.database import BackupError
from monitoring.doctor import machine
from tests import factories
from tests.servers.site import ROOT, new_database

SECRET = "the-secret-of-the-app"
READ = "from integrations.models import PlatformCredential as C; print(C.objects.get().app_secret)"


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR, settings.AUDIT_SINKS = tmp_path / "first", [f"file:{tmp_path / 'first/audit'}"]
    (tmp_path / "first/media").mkdir(parents=True)
    (tmp_path / "first/media/picture.png").write_bytes(b"a picture")
    return tmp_path / "first"


@pytest.fixture
def copy(data_dir: Path, transactional_db: None, tmp_path: Path) -> tuple[Path, Path]:
    """A backup and the keys that belong to it, of a site with one secret."""
    factories.credential(app_secret=SECRET)
    audit.record("test.happened")
    call_command("audit", "checkpoint")
    call_command("backup", f"--output={tmp_path / 'copies'}", f"--keys-to={tmp_path / 'keys'}")
    return next((tmp_path / "copies").iterdir()), tmp_path / "keys"


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of another installation, whose database is empty."""
    env = {"PATH": os.environ["PATH"], "CLAWDBOT_DATA_DIR": str(tmp_path / "second")}
    if connection.vendor == "sqlite":
        return env
    return {**env, "DATABASE_URL": new_database(os.environ["DATABASE_URL"], "backup")}


def manage(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=False)


def test_a_backup_comes_back_in_another_place(
    copy: tuple[Path, Path], elsewhere: dict[str, str], tmp_path: Path
) -> None:
    made, keys = copy

    done = manage(elsewhere, "restore", str(made), "--keys-from", str(keys))

    assert (done.returncode, done.stderr) == (0, "")
    assert manage(elsewhere, "shell", "-v0", "-c", READ).stdout.strip() == SECRET
    assert (tmp_path / "second/media/picture.png").read_bytes() == b"a picture"
    assert manage(elsewhere, "audit", "verify").returncode == 0
    copied = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first/audit").iterdir()]
    assert copied
    assert [path for path in copied if not (tmp_path / "second" / path).exists()] == []


def test_neither_keys_nor_secrets_are_in_it_and_only_the_owner_reads_it(copy: tuple[Path, Path]) -> None:
    made, keys = copy
    texts = "".join(path.read_bytes().decode("latin-1") for path in made.iterdir())
    kept = (keys / "field-encryption-keys").read_text().strip()

    assert (kept in texts, SECRET in texts) == (False, False)
    assert {path.stat().st_mode & 0o777 for path in [*made.iterdir(), *keys.iterdir()]} == {0o600}


def test_nothing_that_is_there_is_overwritten(copy: tuple[Path, Path]) -> None:
    with pytest.raises(CommandError, match="is not empty"):
        call_command("restore", str(copy[0]))


def test_a_backup_without_its_key_is_refused(copy: tuple[Path, Path], settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ["NbG8m3xq1ZPpTzXWwF6c0kq8H5r2y7uJv9sLdQeRtYI="]

    with pytest.raises(CommandError, match="needs the key-encryption key"):
        call_command("restore", str(copy[0]))


def test_a_backup_that_was_altered_is_refused(copy: tuple[Path, Path]) -> None:
    (file,) = copy[0].glob("database.*")
    with file.open("ab") as opened:
        opened.write(b"x")

    with pytest.raises(CommandError, match=r"database\..* is missing or was altered"):
        call_command("restore", str(copy[0]))


def test_keys_never_lie_with_the_backup(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="must not lie with the backup"):
        call_command("backup", f"--output={tmp_path / 'copies'}", f"--keys-to={tmp_path / 'copies/keys'}")

    assert not (tmp_path / "copies").exists()


def test_an_archive_that_leads_elsewhere_is_refused(copy: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))

    with tarfile.open(tmp_path / "evil.tar") as archive, pytest.raises(BackupError, match="no file of the data folder"):
        folder._unpack(archive, tmp_path / "second")


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for day in range(1, 5):
        place = tmp_path / f"clawdbot-backup-2026110{day}T000000Z"
        place.mkdir()
        (place / folder.LIST).write_text(json.dumps({}))
    (tmp_path / "something-else").mkdir()

    removed = folder.forget_old(tmp_path, 2)

    assert len(removed) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clawdbot-backup-20261103T000000Z",
        "clawdbot-backup-20261104T000000Z",
        "something-else",
    ]


def test_doctor_knows_the_age_of_the_last_backup(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path

    def told() -> list[tuple[str, str]]:
        return [(one.level, one.what) for one in machine.backups()]

    assert told() == [("warning", "No backup was made of this site.")]
    (tmp_path / folder.LAST).write_text((timezone.now() - timedelta(hours=5)).isoformat())
    assert told() == [("ok", "The last backup is 5 hours old.")]
    (tmp_path / folder.LAST).write_text((timezone.now() - timedelta(hours=50)).isoformat())
    assert told() == [("warning", "The last backup is 50 hours old.")]
