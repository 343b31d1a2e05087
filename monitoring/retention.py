"""Retention: the oldest part of the log leaves by a signed purge, after which the chain is still proven (rule U9).

The signed statement says where the chain begins now. Only the tables' owner may delete: with DATABASE_OWNER_URL the
purge runs on a connection of that role, because the running site's own has no right to.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.utils import timezone

from monitoring import audit, grants, sealer, triggers, verifier
from monitoring.alerts import close_alert, open_alert
from monitoring.models import AuditCheckpoint, AuditSeal

logger = logging.getLogger(__name__)

BATCH: Final = 2_000
SEALS, CHECKPOINTS = AuditSeal._meta.db_table, AuditCheckpoint._meta.db_table


@dataclass(frozen=True, slots=True)
class Purge:
    """The chain up to and with this seal is let go."""

    through: int
    hash: str
    rows: int


def purge_if_due() -> Purge | None:
    """For the scheduler, once a day. A refusal by the database becomes an alert: somebody has to give the right."""
    try:
        done = purge(timezone.now() - timedelta(days=settings.AUDIT_RETENTION_DAYS))
    except DatabaseError as error:
        reason = str(error).strip().partition("\n")[0]
        logger.error("the audit log could not be purged", extra={"reason": reason})
        open_alert("audit.purge", f"The audit log could not be purged; set DATABASE_OWNER_URL. {reason}")
        return None
    close_alert("audit.purge")
    return done


def purge(before: datetime) -> Purge | None:
    """Let go of the oldest entries, as far as all of them are older; None when there are none.

    First the statement is signed and committed, then the rows go in batches: what is stopped half-way is finished by
    the next call, and verifies at any moment.
    """
    found = _announce(before)
    if through := _purged_through():
        while _delete_batch(through):
            pass
    return found


def _announce(before: datetime) -> Purge | None:
    with transaction.atomic():
        if not sealer.alone() or (found := _oldest(before)) is None:
            return None
        changes = {"through": found.through, "hash": found.hash, "entries": found.rows, "before": before.isoformat()}
        audit.record("auditlog.purged", target_label=f"through {found.through}", changes=changes)
        sequence, hash_ = sealer.head()
        more = {"purged_through": found.through, "purged_hash": found.hash, "purged_before": verifier.moment(before)}
        sealer.checkpoint("purge", sequence, hash_, **more)
    return found


def _oldest(before: datetime) -> Purge | None:
    """The part of the chain whose entries are all older. The last seal always stays: the chain goes on from it."""
    first = AuditSeal.objects.order_by("sequence").values_list("sequence", flat=True).first()
    newest = AuditSeal.objects.values_list("sequence", flat=True).first()
    if first is None or newest is None:
        return None
    through = min(_first_not_older(before, newest + 1) - 1, newest - 1)
    if through < first or through <= _purged_through():
        return None
    hash_ = AuditSeal.objects.values_list("hash", flat=True).get(sequence=through)
    return Purge(through, hash_, through - first + 1)


def _first_not_older(before: datetime, otherwise: int) -> int:
    """The sequence of the first entry in the chain that must stay. Entries come nearly in the order of time."""
    sql = (
        f"SELECT MIN(s.sequence) FROM {SEALS} s JOIN {triggers.AUDIT_TABLE} a ON a.id = s.entry_id"  # noqa: S608  (our own names)  # nosec B608
        " WHERE a.created_at >= %s"
    )
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(sql, [connections[DEFAULT_DB_ALIAS].ops.adapt_datetimefield_value(before)])
        found = cursor.fetchone()[0]
    return int(found) if found is not None else otherwise


def last_purge() -> dict[str, Any]:
    """The newest signed statement of a purge; empty when nothing was purged yet."""
    last = AuditCheckpoint.objects.filter(kind="purge").first()
    return dict(json.loads(last.statement)) if last else {}


def _purged_through() -> int:
    return int(last_purge().get("purged_through", 0))


def _delete_batch(through: int) -> int:
    """Entries, their seals, and checkpoints that speak of nothing else; oldest first."""
    first = AuditSeal.objects.order_by("sequence").values_list("sequence", flat=True).first()
    if first is None or first > through:
        return 0
    last = min(through, first + BATCH - 1)
    with _owner() as owner, triggers.lifted(owner), owner.cursor() as cursor:
        chosen = f"SELECT entry_id FROM {SEALS} WHERE sequence <= %s"  # noqa: S608  (our own names)  # nosec B608
        cursor.execute(f"DELETE FROM {triggers.AUDIT_TABLE} WHERE id IN ({chosen})", [last])  # noqa: S608  (our own names)  # nosec B608
        cursor.execute(f"DELETE FROM {SEALS} WHERE sequence <= %s", [last])  # noqa: S608  (our own names)  # nosec B608
        cursor.execute(f"DELETE FROM {CHECKPOINTS} WHERE kind = 'seal' AND sequence < %s", [last])  # noqa: S608  (our own names)  # nosec B608
    return last - first + 1


@contextmanager
def _owner() -> Iterator[Any]:
    """A connection of the tables' owner."""
    if not grants.has_owner():
        yield connections[DEFAULT_DB_ALIAS]
        return
    try:
        yield connections[grants.OWNER]
    finally:
        connections[grants.OWNER].close()
