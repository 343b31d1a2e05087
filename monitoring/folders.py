"""Exports with their proof: rows with their seals, checkpoints, the public key, and the verifier that needs no us.

A row is ``{"sequence", "entry_id", "state", "hash", "entry"}``; ``entry`` holds the columns as they were sealed. The
CSV has the same for people: a column each, defused for spreadsheets, and the row as it was sealed in the last one.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from monitoring import audit, entries, exports, links, sealer, signing, sinks, verifier
from monitoring.models import AuditCheckpoint, AuditLog, AuditSeal
from monitoring.text import json_text

README: Final = """An export of ClawdBot's audit log.

rows.*             the entries in the order of the chain, each with its seal
checkpoints.jsonl  signed statements of how far the chain reached, and of what was purged
key.json           the public key; compare its fingerprint with one that you got another way
verify.py          checks all of it; needs Python 3.11 and `pip install cryptography`

    python verify.py . --fingerprint HEX [--copies checkpoints-from-elsewhere.jsonl]
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What an export took: entries, SHA-256 of the rows' file, the key's fingerprint."""

    rows: int
    digest: str
    fingerprint: str


class Writable(Protocol):
    def write(self, text: str) -> Any: ...


def write_lines(out: Writable) -> None:
    """Every entry as one JSON line, oldest first, with the seal it has so far."""
    count = AuditLog.objects.count()
    _record("jsonl", count)
    for row in rows():
        out.write(json_text({**(row["entry"] or {"id": row["entry_id"]}), **_seal_of(row)}) + "\n")
    for entry in _unsealed():
        out.write(json_text(entry) + "\n")


def write(folder: Path, form: str) -> Written:
    """A folder that proves itself. What waits is sealed and signed first. Raises OSError."""
    sealer.seal_waiting(budget_s=600.0)
    sealer.sign()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"rows.{form}"
    (folder / f"rows.{'csv' if form == 'jsonl' else 'jsonl'}").unlink(missing_ok=True)
    count, digest = (_write_csv if form == "csv" else _write_json)(path)
    with (folder / "checkpoints.jsonl").open("w", encoding="utf-8") as file:
        for checkpoint in AuditCheckpoint.objects.order_by("number").iterator():
            file.write(json.dumps(checkpoint.as_copy(), sort_keys=True) + "\n")
    (folder / "key.json").write_text(sinks.key_text(), "utf-8")
    (folder / "verify.py").write_text(Path(verifier.__file__).read_text("utf-8"), "utf-8")
    (folder / "README.txt").write_text(README, "utf-8")
    _record(form, count, digest)
    return Written(count, digest, signing.signer().fingerprint)


def rows() -> Iterator[dict[str, Any]]:
    """Seals with their entries (None: gone), in the chain's order."""
    for sequence, entry_id, state, stored, _mark, entry in links.chain():
        found = dict(zip(verifier.SEALED, entry, strict=True)) if entry is not None else None
        yield {"sequence": sequence, "entry_id": entry_id, "state": state, "hash": stored, "entry": found}


def _unsealed() -> Iterator[dict[str, Any]]:
    sealed = AuditSeal.objects.values("entry_id")
    for pk in AuditLog.objects.exclude(pk__in=sealed).order_by("id").values_list("pk", flat=True):
        if values := entries.read(str(pk)):
            yield dict(zip(verifier.SEALED, values, strict=True))


def _seal_of(row: dict[str, Any]) -> dict[str, Any]:
    return {"seal": {name: row[name] for name in ("sequence", "state", "hash")}}


def _write_json(path: Path) -> tuple[int, str]:
    return _write(path, (json_text(row, sort_keys=True) + "\n" for row in rows()))


def _write_csv(path: Path) -> tuple[int, str]:
    return _write(path, _csv_lines(), heads=1)


def _csv_lines() -> Iterator[str]:
    writer = csv.writer(exports.Line(), lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    yield "\ufeff" + writer.writerow(["sequence", *verifier.COLUMNS, "sealed_as"])
    for row in rows():
        entry = row["entry"] or {}
        shown = [exports.cell(entry.get(name, "")) for name in verifier.COLUMNS]
        yield writer.writerow([row["sequence"], *shown, json_text(row, sort_keys=True)])


def _write(path: Path, lines: Iterator[str], heads: int = 0) -> tuple[int, str]:
    """Returns how many rows there are and the SHA-256 of the file."""
    count, digest = -heads, hashlib.sha256()
    with path.open("w", encoding="utf-8", newline="") as file:
        path.chmod(0o600)
        for line in lines:
            file.write(line)
            digest.update(line.encode("utf-8", "surrogatepass"))
            count += 1
    return count, digest.hexdigest()


def _record(form: str, count: int, digest: str = "") -> None:
    taken = {"format": form, "entries": count, "sha256": digest}
    audit.record("auditlog.exported", target_label=form, changes=audit.diff({}, taken))
