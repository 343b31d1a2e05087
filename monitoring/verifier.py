"""Verifies an export of ClawdBot's audit log. One file: it needs Python 3.11 and the package `cryptography` only.

    python verify.py FOLDER --fingerprint HEX [--copies FILE …]

FOLDER is what ``manage.py audit export --output FOLDER`` wrote. HEX is the fingerprint of the public key; get it from
somebody you trust (it is shown in the admin and by ``manage.py audit checkpoint``), never from the export itself.
FILE is a copy of the checkpoints from a place where the database's owner cannot write: with it a tail that was cut
off, or a second history, is found even if database and export agree. Ends with 0 if all is well, else with 1.

The chain: digest = SHA-256 of the entry's canonical form; hash = SHA-256 of "previous hash|sequence|entry id|state|
digest", starting from 64 zeros. A checkpoint is canonical JSON {sequence, hash, …} with an Ed25519 signature.
ClawdBot's own ``audit verify`` uses the functions of this file.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

COLUMNS: Final = (
    "id",
    "created_at",
    "actor_kind",
    "actor_id",
    "actor_label",
    "action",
    "target_type",
    "target_id",
    "target_label",
    "changes",
    "outcome",
    "reason",
    "count",
    "address",
    "request_id",
)
SEALED: Final = (*COLUMNS, "mark")  # what a digest covers; only the site can check the mark itself
GENESIS: Final = "0" * 64
FOREIGN, MISSING = 2, 3  # states of a seal: the sealer itself did not vouch for this entry
# repr: for values that no entry of ours holds, so that whoever put them there is found and stops nothing.
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False, default=repr
).encode


# -- the chain --


def canonical(values: list[Any]) -> bytes:
    """An entry's values, in the order of SEALED, as bytes that are the same whatever database they came from."""
    return _encode(values).encode("utf-8", "surrogatepass")


def moment(at: datetime) -> str:
    """A time as the canonical form has it: UTC, microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def digest_of(values: list[Any]) -> str:
    return digest_of_bytes(canonical(values))


def digest_of_bytes(form: bytes) -> str:
    return hashlib.sha256(form).hexdigest()


def link(previous: str, sequence: int, entry_id: str, state: int, digest: str) -> str:
    """The hash of one seal."""
    return hashlib.sha256(f"{previous}|{sequence}|{entry_id}|{state}|{digest}".encode()).hexdigest()


def fingerprint_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()


def statement_text(statement: dict[str, Any]) -> str:
    """What a checkpoint's signature covers."""
    return _encode(statement)


# -- keys: each says by a signed statement which one follows --


@dataclass(frozen=True, slots=True)
class Lineage:
    """The public keys that signed, in their order, each with the number of the first checkpoint that is its own."""

    keys: tuple[tuple[int, bytes], ...]

    def has(self, fingerprint: str) -> bool:
        wanted = fingerprint.strip().lower().replace(":", "")
        return any(fingerprint_of(public) == wanted for _number, public in self.keys)

    def signer_of(self, number: int) -> bytes:
        return next((public for first, public in reversed(self.keys) if first <= number), self.keys[0][1])


def agreement_text(turn: dict[str, Any]) -> str:
    """What the next key signs, to show that it exists and takes over here and from this one."""
    names = ("number", "sequence", "hash", "public", "next_public", "next_key")
    return _encode({"v": 1, "kind": "agreement", **{name: turn[name] for name in names}})


def lineage_of(newest: bytes, handovers: Iterable[dict[str, str]]) -> Lineage:
    """Follow the handovers, oldest first, to the newest key. Raises ValueError where one does not hold.

    Each is signed by both keys: so who trusts any key of the line may trust them all.
    """
    keys: list[tuple[int, bytes]] = []
    for handover in handovers:
        number, old, new = _checked_handover(handover)
        if keys and (keys[-1][1] != old or keys[-1][0] > number):
            raise ValueError("The line of signing keys is broken: a key took over from one that had no turn.")
        keys += [(number + 1, new)] if keys else [(0, old), (number + 1, new)]
    if keys and keys[-1][1] != newest:
        raise ValueError("The line of signing keys is broken: it does not lead to the present key.")
    return Lineage(tuple(keys) or ((0, newest),))


def _checked_handover(handover: dict[str, str]) -> tuple[int, bytes, bytes]:
    """(number of the checkpoint, old key, new key)"""
    try:
        turn = json.loads(handover["statement"])
        old, new = bytes.fromhex(turn["public"]), bytes.fromhex(turn["next_public"])
        if turn["key"] != fingerprint_of(old) or turn["next_key"] != fingerprint_of(new):
            raise ValueError
        Ed25519PublicKey.from_public_bytes(old).verify(
            bytes.fromhex(handover["signature"]), handover["statement"].encode()
        )
        Ed25519PublicKey.from_public_bytes(new).verify(
            bytes.fromhex(turn["next_signature"]), agreement_text(turn).encode()
        )
        return int(turn["number"]), old, new
    except (InvalidSignature, ValueError, KeyError, TypeError):
        raise ValueError("A key took over without the signatures of both: it may be forged.") from None


# -- checkpoints --


@dataclass(frozen=True, slots=True)
class Problem:
    """Something is not as it was sealed. ``sequence`` is the place in the chain, 0 where there is none."""

    sequence: int
    text: str
    entry_id: str = ""


@dataclass(slots=True)
class Checkpoints:
    """Statements whose signatures are good, from the database and from copies, and what they contradict.

    Give all of them, then ask. Of several with one sequence and hash only the first and the last are verified: the
    rest say nothing more.
    """

    lineage: Lineage = field(repr=False)
    hashes: dict[int, str] = field(default_factory=dict)
    numbers: dict[str, dict[int, int]] = field(default_factory=dict)  # source -> number -> sequence
    purged_through: int = 0
    purged_hash: str = GENESIS
    signed_at: str = ""
    problems: list[Problem] = field(default_factory=list)
    forked: set[int] = field(default_factory=set)
    _by_number: dict[int, bytes] = field(default_factory=dict, repr=False)  # digests: there may be half a million

    def add(self, source: str, copies: Iterable[dict[str, str]]) -> None:
        """Take the checkpoints of one source, in their order."""
        found = self.numbers.setdefault(source, {})
        waiting: tuple[dict[str, Any], dict[str, str]] | None = None
        place: tuple[Any, ...] = ()
        for copy in copies:
            statement = self._read(source, copy)
            if statement is None:
                continue
            found[statement["number"]] = statement["sequence"]
            here = (statement["kind"], statement["sequence"], statement["hash"])
            if here != place:
                if waiting:
                    self._accept(source, *waiting)
                self._accept(source, statement, copy)
                place, waiting = here, None
            else:
                waiting = (statement, copy)
        if waiting:
            self._accept(source, *waiting)

    @property
    def sequence(self) -> int:
        """How far the signatures reach."""
        return max(self.hashes, default=0)

    def _read(self, source: str, copy: dict[str, str]) -> dict[str, Any] | None:
        try:
            statement = json.loads(copy["statement"])
            int(statement["number"]), int(statement["sequence"]), str(statement["hash"]), str(statement["kind"])
        except (ValueError, KeyError, TypeError):
            self.problems.append(Problem(0, f"{source}: a checkpoint cannot be read"))
            return None
        return dict(statement)

    def _accept(self, source: str, statement: dict[str, Any], copy: dict[str, str]) -> None:
        number, sequence, signed = statement["number"], statement["sequence"], copy["statement"]
        whole = f"{signed}{copy.get('signature')}"
        known, digest = self._by_number.get(number), hashlib.sha256(whole.encode()).digest()
        if known == digest:
            return
        try:
            key = Ed25519PublicKey.from_public_bytes(self.lineage.signer_of(number))
            key.verify(bytes.fromhex(copy["signature"]), signed.encode())
        except (InvalidSignature, ValueError, KeyError):
            self.problems.append(Problem(sequence, f"{source}: the signature of checkpoint {number} is wrong"))
            return
        if known is not None:
            text = f"{source}: there are two different signed checkpoints {number}: the log was forked"
            self.problems.append(Problem(sequence, text))
        if self.hashes.setdefault(sequence, statement["hash"]) != statement["hash"]:
            text = f"{source}: two signed checkpoints disagree about sequence {sequence}: the log was forked"
            self.problems.append(Problem(sequence, text))
            self.forked.add(sequence)
        self._by_number.setdefault(number, digest)
        self.signed_at = max(self.signed_at, statement["signed_at"])
        if statement["kind"] == "purge" and statement["purged_through"] > self.purged_through:
            self.purged_through, self.purged_hash = statement["purged_through"], statement["purged_hash"]


# -- walking along the chain --


@dataclass(slots=True)
class Walk:
    """Follows the chain and remembers the first thing that is wrong. ``step`` for each seal, then ``end``."""

    checkpoints: Checkpoints
    sequence: int = 0
    previous: str = GENESIS
    vouched: int = 0  # the last sequence that a signature agreed with
    first_bad: Problem | None = None
    is_vague: bool = False  # ``first_bad`` begins a stretch that is not what was signed, though its hashes fit
    unproven: int = 0  # a seal whose predecessor left by a purge that is not finished
    _is_begun: bool = False

    def beginning(self, after: int, previous: str) -> Walk:
        """Another walk over the same chain, that begins behind the seal ``after``, whose hash is ``previous``."""
        return Walk(self.checkpoints, after, previous, _is_begun=True)

    def step(self, sequence: int, entry_id: str, state: int, stored: str, digest: str | None) -> bool:
        """One seal, and the digest of its entry (None: the entry is gone). False when something is wrong here."""
        if not self._is_begun and not self._begin(sequence):
            return False
        if sequence != self.sequence + 1:
            return self._wrong(self.sequence + 1, f"seal {self.sequence + 1} is gone", "")
        if digest is None and state != MISSING:
            return self._wrong(sequence, "the entry was deleted", entry_id)
        if self.previous and link(self.previous, sequence, entry_id, state, digest or GENESIS) != stored:
            return self._wrong(sequence, "the entry, or its seal, was changed", entry_id)
        if state == FOREIGN:
            return self._wrong(sequence, "the entry was not written by ClawdBot", entry_id)
        if state == MISSING:
            return self._wrong(sequence, "the entry was deleted before it was sealed", entry_id)
        self.sequence, self.previous = sequence, stored
        return self._agrees(sequence, stored, entry_id)

    def end(self) -> None:
        """After the last seal: whether the signatures know of more."""
        if self.first_bad is None and self.checkpoints.sequence > self.sequence:
            missing = self.checkpoints.sequence - self.sequence
            text = f"the end of the log was cut off: {missing} entries that were signed for are gone"
            self._wrong(self.sequence + 1, text, "")

    def _begin(self, sequence: int) -> bool:
        """The first seal: number 1, or where a signed purge ended. A purge may also be half done."""
        self._is_begun = True
        through = self.checkpoints.purged_through
        if sequence == through + 1:
            self.sequence, self.previous, self.vouched = through, self.checkpoints.purged_hash, through
            return True
        if 1 < sequence <= through:
            self.sequence, self.previous, self.unproven = sequence - 1, "", sequence  # what came before left, rightly
            return True
        if sequence == 1:
            return True
        return self._wrong(through + 1, f"the seals {through + 1} to {sequence - 1} are gone without a purge", "")

    def _agrees(self, sequence: int, stored: str, entry_id: str) -> bool:
        signed = self.checkpoints.hashes.get(sequence)
        if sequence == self.checkpoints.purged_through:
            signed = self.checkpoints.purged_hash
        if signed is None:
            return True
        if signed != stored or sequence in self.checkpoints.forked:
            self.is_vague = True
            text = f"the entries {self.vouched + 1} to {sequence} are not those that were signed: the log was rewritten"
            return self._wrong(self.vouched + 1, text, entry_id if sequence == self.vouched + 1 else "")
        self.vouched = sequence
        return True

    def _wrong(self, sequence: int, text: str, entry_id: str) -> bool:
        if self.first_bad is None:
            self.first_bad = Problem(sequence, text, entry_id)
        return False


# -- an exported folder --


def seals_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Seals with their entries, in order; the entries' file is CSV or JSON lines."""
    rows = _csv_rows(folder / "rows.csv") if (folder / "rows.csv").exists() else _json_rows(folder / "rows.jsonl")
    yield from rows


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """CSV is for people: cells are defused there. The last column holds the row as it was sealed."""
    csv.field_size_limit(2**24)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            yield json.loads(row["sealed_as"].removeprefix("'"))


def verify_folder(folder: Path, fingerprint: str, copies: Iterable[Path]) -> tuple[Walk, list[Problem]]:
    """Raises ValueError when the folder is no export, or its key is not the one of the fingerprint."""
    try:
        key = json.loads((folder / "key.json").read_text("utf-8"))
        public, handovers = bytes.fromhex(key["public"]), list(key.get("handovers", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder} is no export: its key.json cannot be read.") from None
    lineage = lineage_of(public, handovers)
    if not lineage.has(fingerprint):
        raise ValueError("The export was signed with another key than the one of this fingerprint.")
    checkpoints = Checkpoints(lineage)
    for path in [folder / "checkpoints.jsonl", *copies]:
        checkpoints.add(path.name, _json_rows(path))
    walk = Walk(checkpoints)
    for row in seals_of(folder):
        entry = row["entry"]
        digest = None if entry is None else digest_of([entry[name] for name in SEALED])
        if not walk.step(row["sequence"], row["entry_id"], row["state"], row["hash"], digest):
            break
    else:
        walk.end()
    return walk, checkpoints.problems


def main() -> int:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("folder", type=Path)
    words.add_argument("--fingerprint", required=True, help="of the public key, from somebody you trust")
    words.add_argument("--copies", type=Path, nargs="*", default=[], help="checkpoints from another place")
    given = words.parse_args()
    try:
        walk, problems = verify_folder(given.folder, given.fingerprint, given.copies)
    except (ValueError, KeyError, TypeError, OSError) as error:
        sys.stderr.write(f"Cannot be verified: {error}\n")
        return 1
    for problem in problems:
        sys.stdout.write(f"BAD: {problem.text}\n")
    if walk.first_bad:
        bad = walk.first_bad
        sys.stdout.write(f"BAD: first bad row: sequence {bad.sequence} {bad.entry_id}: {bad.text}\n")
    if problems or walk.first_bad:
        return 1
    if walk.unproven:
        sys.stdout.write(f"Note: a purge is not finished; nothing proves what row {walk.unproven} says.\n")
    through = min(walk.vouched, walk.sequence)
    sys.stdout.write(f"OK: {walk.sequence} entries in an unbroken chain, signed through {through} ")
    sys.stdout.write(f"(last signature {walk.checkpoints.signed_at}).\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
