"""``manage.py restore``: a backup into an empty database and data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from clawdbot_site.security import key_files, key_ring
from monitoring import audit
from monitoring.backups import folder
from monitoring.backups.database import BackupError


class Command(BaseCommand):
    help = "Fill an empty database and data folder from a backup. Nothing that is there is ever overwritten."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument("--keys-from", type=Path, metavar="FOLDER", help="what `backup --keys-to` wrote (embedded)")

    def handle(self, *args: Any, keys_from: Path | None, **options: Any) -> None:
        try:
            self._restore(Path(options["folder"]), keys_from)
        except (BackupError, DatabaseError) as error:
            raise CommandError(str(error).strip().splitlines()[0]) from None

    def _restore(self, source: Path, keys_from: Path | None) -> None:
        keys = key_files.read(keys_from) if keys_from else None
        key_files.must_open(folder.read(source).wrapping_keys, keys)
        backup = folder.restore(source)
        if keys:
            key_files.put_in_place(keys)
            settings.FIELD_ENCRYPTION_KEYS = keys.encryption_keys
        key_ring.forget()
        key_ring.primary_id()  # proves that the keys open the data
        audit.record("backup.restored", target_label=str(source), reason=f"made at {backup.made_at}")
        self.stdout.write(
            f"Restored the backup of {backup.made_at}. Start the site: it applies newer migrations itself."
        )
