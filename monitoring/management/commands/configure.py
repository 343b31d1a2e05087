"""``manage.py configure FILE…``: make the database equal to files. ``configure --export``: write such a file."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.utils.translation import gettext as _

from monitoring.configuration import applying, exporting, reading
from monitoring.configuration.applying import Change, Options, Outcome, Remark
from monitoring.configuration.errors import ConfigurationError
from monitoring.configuration.kinds import all_kinds

WOULD_CHANGE: Final = 2
LONGEST_SHOWN: Final = 60


class Command(BaseCommand):
    help = "Make bots, models, credentials, rules, teams and the rest equal to YAML files, or write what is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="*", metavar="FILE", help="YAML files; - reads standard input")
        parser.add_argument("--export", action="store_true", help="write what is stored to standard output")
        parser.add_argument("--dry-run", action="store_true", help="only say what would change; exit 2 if anything")
        parser.add_argument(
            "--prune", action="store_true", help="delete what the files no longer name, of the kinds that they name"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask before deleting")
        parser.add_argument(
            "--allow-literal-secrets", action="store_true", help="take secrets that stand in the files themselves"
        )

    def handle(self, *args: Any, files: list[str], export: bool, **options: Any) -> None:
        if export == bool(files):
            raise CommandError(_("Name the files, or say --export."))
        try:
            if export:
                self.stdout.write(exporting.export(), ending="")
                return
            self._configure(files, options)
        except ConfigurationError as error:
            text = _("Nothing was changed.")
            raise CommandError("\n".join([*error.problems, text])) from None
        except (DatabaseError, ImproperlyConfigured) as error:  # not there, not migrated; no keys
            raise CommandError(str(error).strip().splitlines()[0]) from None

    def _configure(self, files: list[str], options: dict[str, Any]) -> None:
        entries, named = reading.read([_source(name) for name in files], all_kinds())
        wanted = Options(options["prune"], options["dry_run"], options["allow_literal_secrets"])
        if wanted.prune and not (wanted.dry_run or options["yes"]):
            plan = applying.apply(entries, named, replace(wanted, dry_run=True))
            if plan.count("-"):
                self._show(plan)
                self._ask(plan.count("-"), may_ask=reading.STDIN not in files)
        outcome = applying.apply(entries, named, wanted)
        self._show(outcome)
        self._sum_up(outcome, is_dry_run=wanted.dry_run)
        if wanted.dry_run and outcome.changes:
            sys.exit(WOULD_CHANGE)

    def _ask(self, count: int, *, may_ask: bool) -> None:
        if not (may_ask and sys.stdin.isatty()):
            text = _("To delete: %(count)d. Look at them with --dry-run, then say --yes.")
            raise CommandError(text % {"count": count})
        answer = input(_("To delete: %(count)d. Write yes to do it, and the rest: ") % {"count": count})
        if answer.strip() != "yes":
            raise CommandError(_("Nothing was changed."))

    # -- what people read --

    def _show(self, outcome: Outcome) -> None:
        styles = {"+": self.style.SUCCESS, "~": self.style.WARNING, "-": self.style.ERROR}
        for change in outcome.changes:
            self.stdout.write(styles[change.doing](f"{change.doing} {change.label}{_and_with_it(change)}"))
            for name, before, after in change.fields:
                old = f"{_short(before)} -> " if change.doing == "~" and before is not None else ""
                self.stdout.write(f"    {name}: {old}{_short(after)}")

    def _sum_up(self, outcome: Outcome, *, is_dry_run: bool) -> None:
        if not outcome.changes:
            text = _("Nothing to change. As the files say: %(unchanged)d.")
        elif is_dry_run:
            text = _(
                "To do: %(made)d to create, %(changed)d to change, %(deleted)d to delete; %(unchanged)d are right."
            )
        else:
            text = _("Done: %(made)d created, %(changed)d changed, %(deleted)d deleted; %(unchanged)d were right.")
        counts = {"made": outcome.count("+"), "changed": outcome.count("~"), "deleted": outcome.count("-")}
        self.stdout.write(text % {**counts, "unchanged": outcome.unchanged})


def _source(name: str) -> reading.Source:
    if name == reading.STDIN:
        return reading.Source("stdin", sys.stdin.read(), Path.cwd())
    try:
        return reading.Source(name, Path(name).read_text("utf-8"), Path(name).absolute().parent)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(_("%(name)s is no text in UTF-8.") % {"name": name}) from None


def _and_with_it(change: Change) -> str:
    return _(", and with it %(others)s") % {"others": ", ".join(change.goes_with_it)} if change.goes_with_it else ""


def _short(value: Any) -> str:
    if isinstance(value, Remark):
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
