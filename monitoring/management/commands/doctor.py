"""``manage.py doctor``: is this installation whole? One line for each thing, with what to do about it."""

from __future__ import annotations

import json
import logging
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from monitoring import doctor

MARKS: Final[dict[doctor.Level, str]] = {"ok": "ok", "warning": "warning", "failed": "BROKEN"}


class Command(BaseCommand):
    help = "Check settings, keys, database, workers, models, platforms, disk, clock and TLS; say how to mend each."
    requires_system_checks: list[str] = []  # they are the first thing that is looked at

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs: one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        logging.disable(logging.CRITICAL)  # what is wrong is said below, and standard output may be JSON
        lines = []
        for line in doctor.examine():
            lines.append(line)
            if not options["json"]:
                self._show(line)
        level = doctor.worst(lines)
        if options["json"]:
            self._dump(level, lines)
        else:
            self._sum_up(lines)
        sys.exit(1 if level == "failed" else 0)

    def _show(self, line: doctor.Line) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "failed": self.style.ERROR}[line.level]
        mark = style(f"{MARKS[line.level]:8}")
        self.stdout.write(f"{mark} {line.check:16} {line.what}" + (f" -> {line.fix}" if line.fix else ""))
        self.stdout.flush()

    def _sum_up(self, lines: list[doctor.Line]) -> None:
        broken, warnings = (sum(line.level == level for line in lines) for level in ("failed", "warning"))
        text = _("%(broken)s broken, %(warnings)s warnings, %(all)s looked at.")
        self.stdout.write(text % {"broken": broken, "warnings": warnings, "all": len(lines)})

    def _dump(self, level: doctor.Level, lines: list[doctor.Line]) -> None:
        self.stdout.write(
            json.dumps({"status": level, "findings": [asdict(line) for line in lines]}, ensure_ascii=False)
        )
