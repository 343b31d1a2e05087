"""``manage.py audit verify|export|checkpoint``: prove, hand out and sign the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from monitoring import audit, folders, handover, sealer, side_by_side, signing, sinks, verifying
from monitoring.verifier import Problem
from monitoring.verifying import Report, WrongKey


class Command(BaseCommand):
    help = (
        "The audit log: check it (verify), hand it out with its proof (export), sign how far it reaches (checkpoint)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        words = parser.add_subparsers(dest="word", required=True, metavar="verify|export|checkpoint|rotate-key")
        verify = words.add_parser("verify", help="check every entry; ends with 1 and names the first bad one")
        verify.add_argument("--fingerprint", default="", help="that the site's key must have")
        verify.add_argument(
            "--copies", type=Path, nargs="*", default=[], help="checkpoints kept elsewhere (JSON lines)"
        )
        verify.add_argument("--processes", type=int, default=0, help="for a long log; by itself one a processor")
        export = words.add_parser("export", help="JSON lines to standard output, or a folder that proves itself")
        export.add_argument(
            "--output", type=Path, metavar="DIR", help="rows, checkpoints and verifier into this folder"
        )
        export.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
        words.add_parser("checkpoint", help="seal what waits, sign, copy to the sinks, show the key's fingerprint")
        words.add_parser("rotate-key", help="let a new key sign from now on; the old one vouches for it")

    def handle(self, *args: Any, word: str, **options: Any) -> None:
        try:
            {
                "verify": self.verify,
                "export": self.export,
                "checkpoint": self.checkpoint,
                "rotate-key": self.rotate_key,
            }[word](options)
        except DatabaseError as error:
            raise CommandError(f"The database refused: {str(error).strip().partition(chr(10))[0]}") from None

    # -- verify --

    def verify(self, options: dict[str, Any]) -> None:
        try:
            report = verifying.verify(
                fingerprint=options["fingerprint"],
                copies=_copies(options["copies"]),
                processes=options["processes"] or side_by_side.processors(),
            )
        except WrongKey as error:
            raise CommandError(str(error)) from None
        verifying.record(report)
        for warning in report.warnings:
            self.stderr.write(f"note: {warning}")
        if not report.is_good:
            raise CommandError("\n".join(["The audit log was tampered with.", *_bad_lines(report)]))
        self.stdout.write(
            f"OK: {report.rows} entries in an unbroken chain, signed through {report.signed_through} "
            f"({report.last_signed_at or 'no signature yet'}); {report.waiting} wait for their seal. "
            f"{report.rate:,.0f} rows/s. Key {signing.grouped(report.fingerprint)}"
        )

    # -- export --

    def export(self, options: dict[str, Any]) -> None:
        if options["output"] is None:
            if options["format"] != "jsonl":
                raise CommandError("To standard output there are only JSON lines; for CSV give --output DIR.")
            folders.write_lines(self.stdout)
            return
        try:
            written = folders.write(options["output"], options["format"])
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {error.strerror or error}.") from None
        self.stdout.write(f"{written.rows} entries in {options['output']}, SHA-256 of the rows {written.digest}.")
        self.stdout.write(f"Check it: python {options['output'] / 'verify.py'} {options['output']} --fingerprint HEX")
        self.stdout.write(f"HEX is {written.fingerprint}: give it to the auditor by another way than the folder.")

    # -- checkpoint --

    def checkpoint(self, options: dict[str, Any]) -> None:
        sealed = sealer.seal_waiting(budget_s=600.0)
        made = sealer.sign()
        sinks.copy_all()
        fingerprint = signing.signer().fingerprint
        audit.record("auditlog.checkpoint", target_label=str(made.number) if made else "none")
        what = f"checkpoint {made.number} through {made.sequence}" if made else "no checkpoint: another process signs"
        self.stdout.write(f"Sealed {sealed} entries; {what}.")
        self.stdout.write(f"Fingerprint of the key (SHA-256, Ed25519): {fingerprint}")
        self.stdout.write(f"For comparing by eye: {signing.grouped(fingerprint)}")
        for complaint in sinks.complaints():
            self.stderr.write(f"note: {complaint}")

    # -- rotate-key --

    def rotate_key(self, options: dict[str, Any]) -> None:
        new = handover.hand_over()
        if new is None:
            raise CommandError("Nothing was sealed yet, or another process signs at this moment. Try again.")
        sinks.copy_all()
        self.stdout.write(f"Checkpoints are signed by a new key now: {new.fingerprint}")
        self.stdout.write(f"For comparing by eye: {signing.grouped(new.fingerprint)}")
        self.stdout.write("Who has the old fingerprint need not change it: the old key has vouched for the new one.")


def _copies(paths: list[Path]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    for path in paths:
        try:
            lines = path.read_text("utf-8").splitlines()
            yield str(path), [dict(json.loads(line)) for line in lines if line.strip()]
        except (OSError, ValueError, TypeError):
            raise CommandError(f"{path} holds no checkpoints: it must be JSON lines as a sink has them.") from None


def _bad_lines(report: Report) -> Iterator[str]:
    if bad := report.first_bad:
        yield f"First bad row: {_place(bad)}: {bad.text}."
    for problem in report.problems[: verifying.MOST_NAMED]:
        yield f"- {_place(problem)}: {problem.text}."
    if report.waiting:
        yield f"{report.waiting} entries wait for their seal."


def _place(problem: Problem) -> str:
    parts = [f"sequence {problem.sequence}" if problem.sequence else "", problem.entry_id]
    return ", ".join(part for part in parts if part) or "the log"
