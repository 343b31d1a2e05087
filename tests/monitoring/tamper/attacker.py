"""What the owner of the tables can do to a sealed log, and what the verifiers find."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

from monitoring import audit, entries, links, sealer, signing, sinks, triggers, verifier, verifying
from monitoring.models import AuditSeal

LOG, SEALS, CHECKPOINTS = triggers.TABLES
QUEUE = triggers.QUEUE_TABLE


def write(number: int, prefix: str = "bot") -> list[str]:
    """So many entries, sealed, signed and copied; returns the ids of all entries in the order of the chain."""
    for _ in range(number):
        audit.record("bot.changed", target_label=prefix, changes={"name": {"before": "früher", "after": 1.5}})
    sealer.seal_waiting()
    sealer.sign()
    sinks.copy_all()
    return [str(pk) for pk in AuditSeal.objects.order_by("sequence").values_list("entry_id", flat=True)]


@contextmanager
def owner() -> Iterator[Callable[..., None]]:
    """Runs SQL as who owns the tables: the triggers are lifted and stand again afterwards."""
    with triggers.lifted(connection), connection.cursor() as cursor:
        yield lambda sql, *params: cursor.execute(sql, list(params))


def key(entry_id: str) -> Any:
    return entries.database_id(entry_id)


def chain_anew(first: int) -> None:
    """What an attacker who read our source does after a change: new hashes from there on, and matching checkpoints."""
    rows = list(links.chain())
    previous = rows[first - 2][3] if first > 1 else verifier.GENESIS
    with owner() as run:
        for sequence, entry_id, state, _stored, _mark, entry in rows[first - 1 :]:
            digest = verifier.digest_of(entry) if entry else verifier.GENESIS
            previous = verifier.link(previous, sequence, entry_id, state, digest)
            run(f"UPDATE {SEALS} SET hash = %s WHERE sequence = %s", previous, sequence)


def found() -> tuple[int, str]:
    """(sequence, entry id) of the first bad row."""
    report = verifying.verify()
    assert not report.is_good
    assert report.first_bad is not None, report.problems
    return report.first_bad.sequence, report.first_bad.entry_id


def cut_after(sequence: int, ids: list[str]) -> None:
    """The tail leaves from all tables that the attacker can reach."""
    with owner() as run:
        for entry_id in ids[sequence:]:
            run(f"DELETE FROM {LOG} WHERE id = %s", key(entry_id))
        run(f"DELETE FROM {SEALS} WHERE sequence > %s", sequence)
        run(f"DELETE FROM {CHECKPOINTS} WHERE sequence > %s", sequence)


def run_verifier(folder: Path, *more: str, fingerprint: str = "") -> tuple[int, str]:
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), "--fingerprint"]
    done = subprocess.run(
        [*command, fingerprint or signing.signer().fingerprint, *more],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin"},
    )
    return done.returncode, done.stdout + done.stderr
