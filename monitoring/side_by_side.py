"""A long chain verified by several processes: each follows a stretch of it, beginning at the hash before.

Only what is well is taken over. At the first stretch with something wrong in it the caller goes on by itself, so that
the bad row is found, and named, in one place only (monitoring/verifying.py).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from django.db import connection, connections

from monitoring import links
from monitoring.models import AuditSeal
from monitoring.verifier import Walk

FEWEST: Final = 20_000  # entries for which another process is worth its start
Follow = Callable[[Walk, int | None], tuple[int, bool]]  # walk, last sequence -> rows, whether it came to the end


@dataclass(frozen=True, slots=True)
class Stretch:
    """From the seal after ``after``, whose hash is ``previous``, to the seal ``through``."""

    after: int
    previous: str
    through: int


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a stretch was well: all of it, if ``is_whole``."""

    rows: int
    sequence: int
    hash: str
    vouched: int
    is_whole: bool


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lead(walk: Walk, processes: int, follow: Follow) -> int:
    """Bring ``walk`` as far as all was well; returns over how many entries."""
    stretches = list(_stretches(processes))
    if not stretches:
        return 0
    connections.close_all()  # a connection cannot be shared; each process opens its own
    context = multiprocessing.get_context("fork")  # hands over what was read so far, which may be a lot
    begun = [_begin(context, walk, stretch, follow) for stretch in stretches[1:]]
    rows, _is_complete = follow(walk, stretches[0].through)  # the beginning is ours
    is_well = walk.first_bad is None and walk.sequence == stretches[0].through
    for stretch, (process, line) in zip(stretches[1:], begun, strict=True):
        found = _result(line) if is_well else None
        is_well = found is not None and stretch.previous == walk.previous
        if found is not None and is_well:
            rows += _take_over(walk, found)
            is_well = found.is_whole
        process.terminate()
        process.join()
    return rows


def _stretches(processes: int) -> Iterator[Stretch]:
    """Of about one length. None where one process is enough, or another one would not see the same rows."""
    first, last = links.ends()
    number = min(processes, (last - first + 1) // FEWEST)
    if number < 2 or connection.in_atomic_block or _is_in_memory():
        return
    borders = [first - 1 + (last - first + 1) * part // number for part in range(1, number)]
    hashes = dict(AuditSeal.objects.filter(sequence__in=borders).values_list("sequence", "hash"))
    if len(hashes) < len(borders):
        return  # a seal is gone: let one process say which
    for after, through in zip([first - 1, *borders], [*borders, last], strict=True):
        yield Stretch(after, hashes.get(after, ""), through)


def _is_in_memory() -> bool:
    wrapper: Any = connection
    return bool(connection.vendor == "sqlite" and wrapper.is_in_memory_db())


def _begin(context: Any, walk: Walk, stretch: Stretch, follow: Follow) -> tuple[Any, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_follow, args=(walk, stretch, follow, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _follow(walk: Walk, stretch: Stretch, follow: Follow, line: Connection) -> None:
    """In the other process."""
    mine = walk.beginning(stretch.after, stretch.previous)
    rows, _is_complete = follow(mine, stretch.through)
    found = Followed(rows, mine.sequence, mine.previous, mine.vouched, mine.sequence == stretch.through)
    connections.close_all()
    line.send(None if mine.first_bad else found)


def _result(line: Connection) -> Followed | None:
    """None when something is wrong there, or the process came to an end of its own."""
    try:
        found: Followed | None = line.recv()
    except EOFError:
        return None
    return found


def _take_over(walk: Walk, found: Followed) -> int:
    walk.sequence, walk.previous = found.sequence, found.hash
    walk.vouched = max(walk.vouched, found.vouched)
    return found.rows
