"""``manage.py backup``: the database, media and audit checkpoints into a folder while the site runs; keys elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clawdbot_site.security import key_files
from monitoring import audit
from monitoring.backups import folder
from monitoring.backups.database import BackupError


class Command(BaseCommand):
    help = "Copy the database, media and audit checkpoints into a new folder; with --keys-to also the keys, elsewhere."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, default=Path(settings.DATA_DIR) / "backups", metavar="FOLDER")
        parser.add_argument(
            "--keys-to", type=Path, metavar="FOLDER", help="a place that is not stored with the backups"
        )
        parser.add_argument(
            "--keep", type=int, default=0, metavar="N", help="remove all but the newest N (default: none)"
        )

    def handle(self, *args: Any, output: Path, keys_to: Path | None, keep: int, **options: Any) -> None:
        if keys_to and keys_to.resolve().is_relative_to(output.resolve()):
            raise CommandError("The keys must not lie with the backup: whoever takes both can read every secret.")
        try:
            made = folder.make(output, key_files.wrapping_key_ids())
            written = key_files.write(keys_to) if keys_to else None
        except BackupError as error:
            raise CommandError(str(error)) from None
        audit.record("backup.made", target_label=str(made))
        self.stdout.write(f"Backup: {made}")
        for old in folder.forget_old(output, keep):
            self.stdout.write(f"Removed: {old}")
        self.stdout.write(f"Keys: {written}" if written else _where_keys_are())


def _where_keys_are() -> str:
    names = "SECRET_KEY and FIELD_ENCRYPTION_KEYS"
    return f"No key is in it. Keep {names} apart from it (--keys-to FOLDER): without them no secret in it can be read."
