"""``audit verify`` on the site itself: the whole chain, the signatures, and the copies that sinks hold, streamed.

The checks are those of monitoring/verifier.py, which auditors run without us. Here our keys tell more: the mark of a
seal shows the exact place where somebody wrote the chain anew.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring import audit, entries, grants, marks, retention, side_by_side, signing, sinks, triggers, verifier
from monitoring.links import BEGINNING, CHUNK, chain
from monitoring.models import AuditCheckpoint, AuditLog, AuditSeal, AuditWaiting
from monitoring.verifier import Checkpoints, Lineage, Problem, Walk

GRACE: Final = timedelta(seconds=60)  # so long an entry may wait for its seal
MOST_NAMED: Final = 20
Copy = dict[str, str]
REWRITTEN: Final = "the chain was written anew from here on"


@dataclass(slots=True)
class Report:
    """What a verification found."""

    fingerprint: str
    rows: int = 0
    signed_through: int = 0
    last_sequence: int = 0
    last_signed_at: str = ""
    waiting: int = 0
    waiting_since: datetime | None = None
    is_complete: bool = True
    took_s: float = 0.0
    first_bad: Problem | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.problems and self.first_bad is None

    @property
    def rate(self) -> float:
        return self.rows / self.took_s if self.took_s else 0.0


class WrongKey(Exception):
    """The site's key is not the one whose fingerprint was given, nor its successor by signed handovers."""


def verify(
    *,
    fingerprint: str = "",
    copies: Iterable[tuple[str, Iterable[Copy]]] = (),
    budget_s: float | None = None,
    processes: int = 1,
) -> Report:
    """Check everything; with ``budget_s`` as much as fits. Raises WrongKey.

    With several ``processes`` a long log is done sooner. They are forked: not for a process that has threads.
    """
    began = time.monotonic()
    given = (fingerprint, list(copies), began + budget_s if budget_s else None, processes)
    report = _verify(*given)
    if report.first_bad and 0 < report.first_bad.sequence <= retention.last_purge().get("purged_through", 0):
        report = _verify(*given)  # a purge came between
    report.took_s = time.monotonic() - began
    return report


def _verify(fingerprint: str, copies: list[tuple[str, Iterable[Copy]]], end: float | None, processes: int) -> Report:
    key = signing.signer()
    lineage, forged = _lineage(key)
    if fingerprint and not lineage.has(fingerprint):
        raise WrongKey(f"This site signs with the key {signing.grouped(key.fingerprint)}, which is another one.")
    report = Report(key.fingerprint, problems=forged)
    checkpoints = _checkpoints(lineage, copies, report)
    walk = Walk(checkpoints)
    report.is_complete = _walk(walk, report, end, processes)
    if report.is_complete and walk.first_bad is None:
        walk.end()
    if walk.first_bad:
        _point_out(walk, walk.first_bad)
    report.first_bad, report.problems = walk.first_bad, [*report.problems, *checkpoints.problems]
    report.last_sequence, report.signed_through = walk.sequence, walk.vouched
    report.last_signed_at = checkpoints.signed_at
    _look_at_unsealed(report)
    _look_at_protection(report)
    return report


# -- checkpoints --


def _lineage(key: signing.Signer) -> tuple[Lineage, list[Problem]]:
    """The present key is proven by being opened; the line that leads to it is only what the database says."""
    try:
        return verifier.lineage_of(key.public, signing.handovers()), []
    except ValueError as error:
        return verifier.Lineage(((0, key.public),)), [Problem(0, str(error))]


def _checkpoints(lineage: Lineage, copies: list[tuple[str, Iterable[Copy]]], report: Report) -> Checkpoints:
    """Copies are read first: then the database may have got newer ones, and nothing seems to be missing in it."""
    checkpoints = Checkpoints(lineage)
    for name, read in [*sinks.readable(), *copies]:
        try:
            checkpoints.add(name, read)
        except OSError as error:
            report.problems.append(Problem(0, f"{name}: the copies cannot be read ({error.strerror})"))
    checkpoints.add("database", _stored())
    _compare_numbers(checkpoints, report)
    return checkpoints


def _stored() -> Iterator[Copy]:
    rows = AuditCheckpoint.objects.order_by("number").values_list("statement", "signature")
    for statement, signature in rows.iterator(chunk_size=CHUNK):
        yield {"statement": statement, "signature": signature}


def _compare_numbers(checkpoints: Checkpoints, report: Report) -> None:
    through, held = checkpoints.purged_through, checkpoints.numbers["database"]
    for name, numbers in checkpoints.numbers.items():
        lost = sorted(number for number, sequence in numbers.items() if number not in held and sequence > through)
        if lost:
            text = f"{name} holds {len(lost)} checkpoints that are gone from the database, the first is {lost[0]}"
            report.problems.append(Problem(0, text))
    kept = [number for number, sequence in held.items() if sequence > through]
    if gaps := set(range(min(kept, default=0), max(kept, default=0))) - held.keys():
        report.problems.append(Problem(0, f"checkpoint {min(gaps)} is gone from the database"))


# -- the chain --


def _walk(walk: Walk, report: Report, end: float | None, processes: int) -> bool:
    """False when the time was up before the end."""
    follow = partial(_follow, key=marks.key_for(marks.SEAL), end=end)
    if processes > 1:
        report.rows = side_by_side.lead(walk, processes, follow)
    rows, is_complete = follow(walk, None) if walk.first_bad is None else (0, True)
    report.rows += rows
    return is_complete


def _follow(walk: Walk, through: int | None, *, key: bytes, end: float | None) -> tuple[int, bool]:
    """From where the walk stands: how many entries, and False when the time was up. It ends at the first bad one."""
    step, digest_of, signed = walk.step, verifier.digest_of, walk.checkpoints.sequence
    rows = 0
    for sequence, entry_id, state, stored, mark, entry in chain(walk.sequence or BEGINNING, through):
        rows += 1
        if not step(sequence, entry_id, state, stored, None if entry is None else digest_of(entry)):
            break
        if sequence > signed and not _is_ours(key, stored, mark):  # up to there the signatures tell
            walk.first_bad = Problem(sequence, REWRITTEN, entry_id)
            break
        if sequence == walk.unproven and entry is not None and not _was_written_here(entry):
            walk.first_bad = Problem(sequence, "the entry was changed, or put among those that a purge takes", entry_id)
            break
        if end is not None and rows % CHUNK == 0 and time.monotonic() > end:
            return rows, False
    return rows, True


def _point_out(walk: Walk, bad: Problem) -> None:
    """Between the last signature that agreed and the bad place, the marks tell where somebody else began."""
    key = marks.key_for(marks.SEAL)
    for sequence, entry_id, _state, stored, mark, _entry in chain(walk.vouched):
        if sequence > (walk.sequence if walk.is_vague else bad.sequence - 1):
            return
        if not _is_ours(key, stored, mark):
            walk.first_bad = Problem(sequence, REWRITTEN, entry_id)
            return


def _was_written_here(entry: list[Any]) -> bool:
    """By its mark, where the chain cannot tell."""
    *values, mark = entry
    return hmac.compare_digest(
        str(mark).encode(), marks.mark(marks.key_for(marks.ENTRY), verifier.canonical(values)).encode()
    )


def _is_ours(key: bytes, stored: str, mark: str) -> bool:
    return hmac.compare_digest(mark, marks.mark(key, stored.encode()))


# -- what is not sealed --


def _look_at_unsealed(report: Report) -> None:
    """Entries that wait are well; those that neither wait nor are sealed were put past the queue."""
    seals, queue, log = AuditSeal._meta.db_table, AuditWaiting._meta.db_table, triggers.AUDIT_TABLE
    sql = (
        f"SELECT a.id FROM {log} a WHERE NOT EXISTS (SELECT 1 FROM {seals} s WHERE s.entry_id = a.id)"  # noqa: S608  (our own names)  # nosec B608
        f" AND NOT EXISTS (SELECT 1 FROM {queue} w WHERE w.entry_id = a.id) ORDER BY a.id LIMIT {MOST_NAMED}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        outside = [entries.uuid_text(row[0]) for row in cursor.fetchall()]
    for entry_id in outside:
        report.problems.append(Problem(0, "the entry has no seal and does not wait for one", entry_id))
    if outside and report.first_bad is None:
        report.first_bad = Problem(0, "the entry was put into the log past the sealer", outside[0])
    _look_at_waiting(report)


def _look_at_waiting(report: Report) -> None:
    report.waiting = AuditWaiting.objects.count()
    first = AuditWaiting.objects.order_by("entry_id").first()
    if first:
        report.waiting_since = AuditLog.objects.filter(pk=first.pk).values_list("created_at", flat=True).first()
    if report.waiting_since and timezone.now() - report.waiting_since > GRACE:
        text = _(
            "%(count)s entries wait for their seal since %(since)s UTC and are not proven: does the scheduler run?"
        )
        since = f"{report.waiting_since:%Y-%m-%d %H:%M:%S}"
        report.warnings.append(text % {"count": report.waiting, "since": since})


def _look_at_protection(report: Report) -> None:
    for name in triggers.all_missing(connection):
        report.problems.append(Problem(0, f"the database's trigger {name} is gone: rows could be changed"))
    report.warnings += [*grants.excess(), *sinks.complaints()]


def record(report: Report) -> None:
    """That somebody verified, and what came of it."""
    bad = report.first_bad or next(iter(report.problems), None)
    changes = {"entries": report.rows, "through": report.last_sequence, "complete": report.is_complete}
    outcome: Literal["success", "failure"] = "success" if report.is_good else "failure"
    audit.record("auditlog.verified", changes=changes, outcome=outcome, reason=bad.text if bad else "")
