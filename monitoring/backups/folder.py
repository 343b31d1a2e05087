"""A backup as a folder: the database's file, archives of the folders of files, a list of all with their digests."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from monitoring.backups import database
from monitoring.backups.database import BackupError

LIST: Final = "backup.json"
NAME: Final = "clawdbot-backup-%Y%m%dT%H%M%SZ"
LAST: Final = "last-backup"  # in the data folder: when the last one was made
FOLDERS: Final = ("media", "audit")  # of the data folder


@dataclass(frozen=True, slots=True)
class Backup:
    """What is in a backup. ``wrapping_keys`` are ids of the key-encryption keys that open it, never the keys."""

    made_at: str
    database: str
    migrations: dict[str, str]
    wrapping_keys: list[str]
    files: dict[str, str]  # name -> SHA-256


def make(output: Path, wrapping_keys: list[str]) -> Path:
    """Write a new backup under ``output`` and return its folder; half of one is never left. Raises BackupError."""
    now = timezone.now().astimezone(UTC)
    target, partial = output / now.strftime(NAME), output / f".{now.strftime(NAME)}.partial"
    if target.exists():
        raise BackupError(f"{target} exists already.")
    try:
        partial.mkdir(parents=True, mode=0o700)
        _fill(partial, now, wrapping_keys)
        partial.rename(target)
    except OSError as error:
        raise BackupError(f"{output} cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    (Path(settings.DATA_DIR) / LAST).write_text(now.isoformat())
    return target


def _fill(folder: Path, now: datetime, wrapping_keys: list[str]) -> None:
    kind = database.dump(folder).name
    for name in FOLDERS:
        if (Path(settings.DATA_DIR) / name).is_dir():
            with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
                archive.add(Path(settings.DATA_DIR) / name, arcname=name)
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    listed = Backup(now.isoformat(), kind, _migrations(), wrapping_keys, files)
    (folder / LIST).write_text(json.dumps(asdict(listed), indent=2))
    for path in folder.iterdir():
        path.chmod(0o600)


def read(folder: Path) -> Backup:
    """The list of a backup whose every file is as it was written. Raises BackupError."""
    try:
        backup = Backup(**json.loads((folder / LIST).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        raise BackupError(f"{folder} is no backup: it has no readable {LIST}.") from None
    for name, digest in backup.files.items():
        path = folder / Path(name).name
        if not path.is_file() or _digest(path) != digest:
            raise BackupError(f"{name} of {folder} is missing or was altered. Take another backup.")
    return backup


def restore(folder: Path) -> Backup:
    """Fill the empty database and data folder of the settings from a backup. Raises BackupError: nothing changed."""
    backup, data_dir = read(folder), Path(settings.DATA_DIR)
    for name in _archives(backup):
        if (data_dir / name).is_dir() and any((data_dir / name).iterdir()):
            raise BackupError(f"{data_dir / name} is not empty. Restore into another CLAWDBOT_DATA_DIR.")
    database.load(folder)
    for name in _archives(backup):
        with tarfile.open(folder / f"{name}.tar.gz") as archive:
            _unpack(archive, data_dir)
    return backup


def forget_old(output: Path, keep: int) -> list[Path]:
    """Remove all backups under ``output`` but the newest ``keep``; returns those removed."""
    all_ = sorted(path for path in output.glob("clawdbot-backup-*") if (path / LIST).is_file())
    old = all_[:-keep] if keep else []
    for path in old:
        shutil.rmtree(path)
    return old


def last_made_at() -> datetime | None:
    try:
        return datetime.fromisoformat((Path(settings.DATA_DIR) / LAST).read_text())
    except (OSError, ValueError):
        return None


def is_old(made_at: datetime) -> bool:
    return timezone.now() - made_at > timedelta(days=2)


def _archives(backup: Backup) -> Iterator[str]:
    return (name for name in FOLDERS if f"{name}.tar.gz" in backup.files)


def _unpack(archive: tarfile.TarFile, data_dir: Path) -> None:
    """Files and folders below ours only. Debian 12's Python has no ``data`` filter, which would see to it as well."""
    root = data_dir.resolve()
    for member in archive.getmembers():
        if not (member.isfile() or member.isdir()) or not (root / member.name).resolve().is_relative_to(root):
            raise BackupError(f"The backup holds {member.name}, which is no file of the data folder.")
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(root, **options)  # noqa: S202  (looked through above)  # nosec B202


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _migrations() -> dict[str, str]:
    """The last migration of each app."""
    rows = MigrationRecorder.Migration.objects.order_by("app", "name").values_list("app", "name")
    return {str(app): str(name) for app, name in rows}
