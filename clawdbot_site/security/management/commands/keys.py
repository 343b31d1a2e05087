"""``manage.py keys status|rotate|reencrypt``: what is old, new keys now, moving the rows to the newest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from clawdbot_site.security import key_clock, key_providers, key_ring, reencryption, signing_keys
from clawdbot_site.security.models.keys import DataKey

KINDS: Final = ("data", "tokens")


class Command(BaseCommand):
    help = (
        "Show the keys and secrets with their ages (status), make a new data key now (rotate; --kind tokens: the key "
        "that signs access tokens), or move all secrets to the newest data key online (reencrypt)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("word", choices=["status", "rotate", "reencrypt"])
        parser.add_argument("--batch-size", type=int, default=reencryption.BATCH_ROWS, help="rows read at once")
        parser.add_argument("--kind", choices=KINDS, default="data", help="what rotate makes anew")

    def handle(self, *args: Any, word: str, **options: Any) -> None:
        words: dict[str, Callable[[dict[str, Any]], None]] = {
            "status": self.status,
            "rotate": self.rotate,
            "reencrypt": self.reencrypt,
        }
        try:
            words[word](options)
        except (key_ring.KeysUnavailable, signing_keys.TooSoon) as error:
            raise CommandError(str(error)) from None

    def status(self, options: dict[str, Any]) -> None:
        key_ring.primary_id()  # makes the first keys, and finds out whether they can be opened
        rows = reencryption.rows_by_key(reencryption.secret_columns())
        self.stdout.write(f"{'key':10}{'purpose':10}{'state':10}{'wrapped by':16}{'age':>8}{'uses':>14}{'secrets':>10}")
        for key in DataKey.objects.order_by("purpose", "created_at"):
            age = f"{(timezone.now() - key.created_at).days} d"
            counts = f"{key.uses:>14}{rows[key.key_id]:>10}" if key.purpose == DataKey.Purpose.ENCRYPT else ""
            self.stdout.write(f"{key!s:10}{key.purpose:10}{key.state:10}{key.kek_id:16}{age:>8}{counts}")
        for lost in rows.keys() - set(DataKey.objects.values_list("key_id", flat=True)):
            self.stderr.write(f"{rows[lost]} secrets are sealed by key {lost:08x}, which is not in the database.")
        self._wrapping_keys()
        self._ages()

    def _wrapping_keys(self) -> None:
        ids = key_providers.wrapping().wrapping_keys()
        self.stdout.write(f"Wrapping keys, newest first: {', '.join(ids)}")

    def _ages(self) -> None:
        self.stdout.write(f"\n{'kind':21}{'replace by':13}{'age':>8}  what")
        for one in key_clock.all_dated():
            note = {"fresh": "", "due": "  (soon)", "overdue": "  (overdue)"}[one.state()]
            self.stdout.write(f"{one.kind:21}{one.due_on:%Y-%m-%d}   {f'{one.age_days} d':>8}  {one.name}{note}")

    def rotate(self, options: dict[str, Any]) -> None:
        if options["kind"] == "tokens":
            key = signing_keys.rotate_by_hand()
            self.stdout.write(f"Access tokens are signed by key {key.kid} now; those of before stay good to their end.")
            return
        new = key_ring.rotate()
        self.stdout.write(f"New secrets go under key {new}. Move the old ones: python manage.py keys reencrypt")

    def reencrypt(self, options: dict[str, Any]) -> None:
        outcome = reencryption.reencrypt(reencryption.secret_columns(), max(1, options["batch_size"]))
        retired = ", ".join(map(str, outcome.retired)) or "none"
        self.stdout.write(f"Moved {outcome.moved} secrets to key {key_ring.primary_id():08x}. Keys retired: {retired}.")
        if outcome.unreadable:
            raise CommandError(
                f"{len(outcome.unreadable)} secrets cannot be decrypted; enter them anew in the admin pages: "
                + ", ".join(outcome.unreadable[:20])
            )
