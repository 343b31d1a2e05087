"""Seals the log's entries into a hash chain, outside of the transactions that write them, and signs checkpoints.

Run by the scheduler every few seconds. One at a time: on PostgreSQL an advisory lock decides, on SQLite the one write
lock. Whoever commits late is sealed late: a trigger queues each entry in its own transaction (monitoring/triggers.py).
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone

from monitoring import entries, marks, signing, verifier
from monitoring.alerts import open_alert
from monitoring.models import AuditCheckpoint, AuditSeal, AuditWaiting

logger = logging.getLogger(__name__)

# Rows of one transaction. SQLite has one writer, and messages wait for it meanwhile.
BATCH: Final = {"sqlite": 500, "postgresql": 2_000}
BUDGET_S: Final = 10.0  # of one run; the next one goes on
NEWS_AFTER: Final = timedelta(seconds=20)  # a checkpoint for entries that came since the last
CALM_AFTER: Final = timedelta(seconds=50)  # a checkpoint that says: nothing came. The promise is one in 60 s
LOCK: Final = 0x61756469  # any number that nobody else takes
State = AuditSeal.State
Seal = tuple[int, str, int, str, str]  # sequence, entry id, state, hash, mark
Waits = tuple[str, list[Any] | None]  # entry id, entry in canonical form (None: gone)


def run(budget_s: float = BUDGET_S) -> int:
    """Seal what waits and sign a checkpoint if one is due; returns how many entries were sealed."""
    sealed = seal_waiting(budget_s)
    sign_if_due()
    return sealed


def seal_waiting(budget_s: float = BUDGET_S) -> int:
    end, sealed = time.monotonic() + budget_s, 0
    while AuditWaiting.objects.exists():  # without the lock: an idle site writes nothing
        batch = _seal_batch()
        sealed += batch
        if not batch or time.monotonic() > end:
            break
    return sealed


def sign_if_due() -> AuditCheckpoint | None:
    last = AuditCheckpoint.objects.first()
    if last is not None:
        has_news = AuditSeal.objects.filter(sequence__gt=last.sequence).exists()
        if timezone.now() - last.signed_at < (NEWS_AFTER if has_news else CALM_AFTER):
            return None
    return sign()


def sign() -> AuditCheckpoint | None:
    """Sign how far the chain reaches now. None when there is nothing yet, or another process is at it."""
    with transaction.atomic():
        if not alone() or (AuditCheckpoint.objects.first() is None and AuditWaiting.objects.exists()):
            return None
        sequence, hash_ = head()
        return checkpoint("seal", sequence, hash_) if sequence else None


def checkpoint(kind: str, sequence: int, hash_: str, **more: Any) -> AuditCheckpoint:
    """Write a signed statement. Call it in a transaction in which ``alone`` said yes."""
    key, last, now = signing.signer(), AuditCheckpoint.objects.first(), timezone.now()
    statement = {
        "v": 1,
        "kind": kind,
        "number": last.number + 1 if last else 1,
        "sequence": sequence,
        "hash": hash_,
        "signed_at": verifier.moment(now),
        "key": key.fingerprint,
        **more,
    }
    text = verifier.statement_text(statement)
    return AuditCheckpoint.objects.create(
        number=statement["number"],
        kind=kind,
        sequence=sequence,
        statement=text,
        signature=key.sign(text),
        signed_at=now,
    )


def alone() -> bool:
    """Whether this transaction is the only one that seals, signs or purges; it stays so until its end."""
    if connection.vendor != "postgresql":
        return True  # its transactions begin with SQLite's write lock (settings/database.py)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def head() -> tuple[int, str]:
    """The last seal's sequence and hash."""
    last = AuditSeal.objects.values_list("sequence", "hash").first()
    return last or (0, verifier.GENESIS)


def waiting() -> float:
    """For the gauge ``clawdbot_audit_unsealed``."""
    return float(AuditWaiting.objects.count())


def _seal_batch() -> int:
    with transaction.atomic():
        if not alone():
            return 0
        waits = _waiting(BATCH[connection.vendor])
        seals = _seals(waits, *head())
        if seals:
            _insert(seals)
            _unqueue([seal[1] for seal in seals])
    if strange := [seal for seal in seals if seal[2] in (State.FOREIGN, State.MISSING)]:
        _raise_alarm(strange)
    return len(seals)


def _waiting(most: int) -> list[Waits]:
    """The first entries of the queue in the order of their ids."""
    queue = AuditWaiting._meta.db_table
    entry_id = "w.entry_id::text" if connection.vendor == "postgresql" else "w.entry_id"
    sql = (
        f"SELECT {entry_id}, {entries.columns('a')}"  # noqa: S608  (our own names)  # nosec B608
        f" FROM (SELECT entry_id FROM {queue} ORDER BY entry_id LIMIT {most}) w"
        f" {entries.joined('a', 'w.entry_id')} ORDER BY w.entry_id"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
    read = entries.reader()
    found = ((row[0], None if row[1] is None else read(row[1:])) for row in rows)
    return [(entries.uuid_text(pk) if entry is None else entry[0], entry) for pk, entry in found]


def _seals(waits: list[Waits], sequence: int, previous: str) -> list[Seal]:
    entry_key, seal_key = marks.key_for(marks.ENTRY), marks.key_for(marks.SEAL)
    takes_unmarked = not AuditCheckpoint.objects.exists()  # rows of before the marks; later they are somebody else's
    seals: list[Seal] = []
    for entry_id, found in waits:
        sequence += 1
        state, digest = _judge(found, entry_key, takes_unmarked)
        previous = verifier.link(previous, sequence, entry_id, state, digest)
        seals.append((sequence, entry_id, state, previous, marks.mark(seal_key, previous.encode())))
    return seals


def _judge(found: list[Any] | None, key: bytes, takes_unmarked: bool) -> tuple[int, str]:
    """(state, digest) of an entry: whether we wrote it."""
    if found is None:
        return int(State.MISSING), verifier.GENESIS
    *values, mark = found
    form = verifier.canonical(values)
    state = State.GENUINE
    if not hmac.compare_digest(str(mark).encode(), marks.mark(key, form).encode()):
        state = State.UNMARKED if takes_unmarked and not mark else State.FOREIGN
    # The mark is the last of what the digest covers: put behind the rest, which is not written a second time.
    return int(state), verifier.digest_of_bytes(b"%b,%b" % (form[:-1], verifier.canonical([mark])[1:]))


def _insert(seals: list[Seal]) -> None:
    into = f"{AuditSeal._meta.db_table} (sequence, entry_id, state, hash, mark)"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # five parameters instead of thousands
            arrays = "unnest(%s::bigint[], %s::uuid[], %s::smallint[], %s::text[], %s::text[])"
            columns = [_array(column) for column in zip(*seals, strict=True)]
            cursor.execute(" ".join(["INSERT INTO", into, "SELECT * FROM", arrays]), columns)
        else:
            rows = [(sequence, entries.database_id(pk), *rest) for sequence, pk, *rest in seals]
            cursor.executemany(" ".join(["INSERT INTO", into, "VALUES (%s, %s, %s, %s, %s)"]), rows)


def _array(values: Iterable[int | str]) -> str:
    """PostgreSQL's notation, of numbers and hex digits: nothing in them needs quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def _unqueue(ids: list[str]) -> None:
    """On SQLite nobody can have come between; on PostgreSQL an older one may have, and waits."""
    where = "= ANY(%s::uuid[])" if connection.vendor == "postgresql" else "<= %s"
    taken = _array(ids) if connection.vendor == "postgresql" else entries.database_id(ids[-1])
    with connection.cursor() as cursor:
        cursor.execute(" ".join(["DELETE FROM", AuditWaiting._meta.db_table, "WHERE entry_id", where]), [taken])


def _raise_alarm(strange: list[Seal]) -> None:
    """Sealed nevertheless, so that it stays visible for ever; a person has to look."""
    sequence, entry_id, state, *_rest = strange[0]
    text = "entry was not written by ClawdBot" if state == State.FOREIGN else "entry was deleted before its seal"
    logger.error("the audit log was tampered with", extra={"sequence": sequence, "entry": entry_id, "what": text})
    details = {"first": sequence, "entry": entry_id, "count": len(strange)}
    open_alert("audit.tampered", f"Audit log, sequence {sequence}: {text}", severity="critical", details=details)
