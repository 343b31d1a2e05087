"""Moving all secrets to the newest data key, online and resumable (rule E9), and counting what each key still opens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.db import models, transaction
from django.db.models.functions import Substr
from django.utils import timezone

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import HEADER_BYTES, DecryptionError, key_prefix
from clawdbot_site.security.fields import EncryptedTextField, Sealed
from clawdbot_site.security.models.keys import DataKey
from monitoring import audit

BATCH_ROWS: Final = 200


@dataclass(slots=True)
class Outcome:
    """What a re-encryption did: secrets moved, places that cannot be opened, keys that no row needs any more."""

    moved: int = 0
    is_complete: bool = True  # False: the time was up before the end
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


def reencrypt(
    columns: list[EncryptedTextField], batch_rows: int = BATCH_ROWS, budget_s: float | None = None
) -> Outcome:
    """Move all secrets to the primary key while the site runs, then retire the keys that have no row left. Audited.

    Each row is changed only if it still holds the ciphertext that was read, so a concurrent write is never lost. It
    can be stopped at any point and started again: what is done is found by its key id. Rule E9.
    """
    key_ring.reread()
    key_ring.rewrap()
    outcome, end = Outcome(), time.monotonic() + budget_s if budget_s else None
    for column in columns:
        for pk, sealed in _rows_under_other_keys(column, batch_rows):
            _move(column, pk, sealed, outcome)
            if end is not None and time.monotonic() > end:
                outcome.is_complete = False
                break
    _retire_and_record(columns, outcome)
    return outcome


def is_needed() -> bool:
    """Whether an older key is still in use, or nobody has looked whether it is."""
    return DataKey.objects.filter(purpose=DataKey.Purpose.ENCRYPT, state=DataKey.State.ACTIVE).exists()


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
