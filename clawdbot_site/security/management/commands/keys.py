"""``manage.py keys status|rotate|reencrypt``: the data keys, and moving the rows from old ones to the newest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import models, transaction
from django.db.models.functions import Substr
from django.utils import timezone

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import HEADER_BYTES, DecryptionError, key_prefix
from clawdbot_site.security.fields import EncryptedTextField, Sealed
from clawdbot_site.security.models.keys import DataKey
from monitoring import audit

BATCH_ROWS: Final = 200
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What a re-encryption did: secrets moved, places that cannot be opened, keys that no row needs any more."""

    moved: int = 0
    unreadable: list[str] = field(default_factory=list)
    retired: list[DataKey] = field(default_factory=list)


def secret_columns() -> list[EncryptedTextField]:
    """Every encrypted column of every installed model."""
    models_with_table = (model for model in apps.get_models() if model._meta.managed and not model._meta.proxy)
    return [column for model in models_with_table for column in secret_columns_of(model)]


def secret_columns_of(model: type[models.Model]) -> list[EncryptedTextField]:
    return [column for column in model._meta.local_fields if isinstance(column, EncryptedTextField)]


def rows_by_key(columns: list[EncryptedTextField]) -> Counter[int]:
    """How many secrets each key id still has to open."""
    rows: Counter[int] = Counter()
    for column in columns:
        for header, count in _sealed_rows(column).order_by().values_list("header").annotate(models.Count("pk")):
            rows[int.from_bytes(bytes(header)[1:], "big")] += count
    return rows


def reencrypt(columns: list[EncryptedTextField], batch_rows: int = BATCH_ROWS) -> Outcome:
    """Move all secrets to the primary key while the site runs, then retire the keys that have no row left. Audited.

    Each row is changed only if it still holds the ciphertext that was read, so a concurrent write is never lost. It
    can be stopped at any point and started again: what is done is found by its key id. Rule E9.
    """
    key_ring.forget()
    key_ring.rewrap()
    outcome = Outcome()
    for column in columns:
        for pk, sealed in _rows_under_other_keys(column, batch_rows):
            _move(column, pk, sealed, outcome)
    _retire_and_record(columns, outcome)
    return outcome


def _sealed_rows(column: EncryptedTextField) -> models.QuerySet[Any]:
    header = Substr(column.attname, 1, HEADER_BYTES, output_field=models.BinaryField())
    rows: models.QuerySet[Any] = column.model._base_manager.annotate(header=header)
    return rows.exclude(**{column.attname: ""})


def _rows_under_other_keys(column: EncryptedTextField, batch_rows: int) -> Iterator[tuple[UUID, Sealed]]:
    """By primary key, so that a row which cannot be moved is met once."""
    rows = _sealed_rows(column).exclude(header=key_prefix(key_ring.primary_id())).order_by("pk")
    batch = list(rows.values_list("pk", column.attname)[:batch_rows])
    while batch:
        yield from batch
        batch = list(rows.filter(pk__gt=batch[-1][0]).values_list("pk", column.attname)[:batch_rows])


def _move(column: EncryptedTextField, pk: UUID, sealed: Sealed, outcome: Outcome) -> None:
    aad = column.aad(pk)
    try:
        moved = Sealed(key_ring.seal(key_ring.unseal(sealed.data, aad), aad))
    except DecryptionError:
        outcome.unreadable.append(f"{column} of {pk}")
        return
    unchanged = column.model._base_manager.filter(**{"pk": pk, column.attname: sealed})
    outcome.moved += unchanged.update(**{column.attname: moved})


def _retire_and_record(columns: list[EncryptedTextField], outcome: Outcome) -> None:
    with transaction.atomic():
        key_ring.hold()
        active = list(DataKey.objects.filter(state=DataKey.State.ACTIVE))
        needed = rows_by_key(columns)
        outcome.retired = [key for key in active if not needed[key.key_id]]
        DataKey.objects.filter(pk__in=[key.pk for key in outcome.retired]).update(
            state=DataKey.State.RETIRED, retired_at=timezone.now()
        )
        changes = audit.diff({}, {"moved": outcome.moved, "retired": [str(key) for key in outcome.retired]})
        audit.record(
            "keys.reencrypted",
            target_label=f"{key_ring.primary_id():08x}",
            changes=changes,
            outcome="failure" if outcome.unreadable else "success",
            reason=f"{len(outcome.unreadable)} secrets cannot be decrypted" if outcome.unreadable else "",
        )


class Command(BaseCommand):
    help = "Show the data keys (status), make a new one now (rotate), or move all secrets to it online (reencrypt)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("word", choices=["status", "rotate", "reencrypt"])
        parser.add_argument("--batch-size", type=int, default=BATCH_ROWS, help="rows read at once by reencrypt")

    def handle(self, *args: Any, word: str, batch_size: int, **options: Any) -> None:
        try:
            {"status": self.status, "rotate": self.rotate, "reencrypt": self.reencrypt}[word](batch_size)
        except key_ring.KeysUnavailable as error:
            raise CommandError(str(error)) from None

    def status(self, batch_size: int) -> None:
        key_ring.primary_id()  # makes the first keys, and finds out whether they can be opened
        rows = rows_by_key(secret_columns())
        self.stdout.write(f"{'key':10}{'purpose':10}{'state':10}{'wrapped by':12}{'age':>8}{'uses':>14}{'secrets':>10}")
        for key in DataKey.objects.order_by("purpose", "created_at"):
            age = f"{(timezone.now() - key.created_at).days} d"
            counts = f"{key.uses:>14}{rows[key.key_id]:>10}" if key.purpose == DataKey.Purpose.ENCRYPT else ""
            self.stdout.write(f"{key!s:10}{key.purpose:10}{key.state:10}{key.kek_id:12}{age:>8}{counts}")
        for lost in rows.keys() - set(DataKey.objects.values_list("key_id", flat=True)):
            self.stderr.write(f"{rows[lost]} secrets are sealed by key {lost:08x}, which is not in the database.")

    def rotate(self, batch_size: int) -> None:
        new = key_ring.rotate()
        self.stdout.write(f"New secrets go under key {new}. Move the old ones: python manage.py keys reencrypt")

    def reencrypt(self, batch_size: int) -> None:
        outcome = reencrypt(secret_columns(), max(1, batch_size))
        retired = ", ".join(map(str, outcome.retired)) or "none"
        self.stdout.write(f"Moved {outcome.moved} secrets to key {key_ring.primary_id():08x}. Keys retired: {retired}.")
        if outcome.unreadable:
            raise CommandError(
                f"{len(outcome.unreadable)} secrets cannot be decrypted; enter them anew in the admin pages: "
                + ", ".join(outcome.unreadable[:20])
            )
