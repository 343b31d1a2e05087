"""Network rules as text: a plain list of networks, or CSV with the columns that an export has. All lines or none.

A list has a network a line, and what stands after ``#`` is its note. CSV begins with a line of column names, of which
``network`` must be there; what a line leaves out is taken from the defaults. Rules that exist already are passed over.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from clawdbot_site.security import rule_book
from clawdbot_site.security.ip_rules import locks_out, normalise
from clawdbot_site.security.models import IPRule, User
from monitoring import audit, exports

COLUMNS: Final = ("network", "action", "scope", "endpoint", "expires_at", "dry_run", "note")
MOST_LINES: Final = 100_000
MOST_BYTES: Final = 8 * 1024 * 1024
MOST_PROBLEMS: Final = 100
BATCH: Final = 500
YES: Final = frozenset({"true", "yes", "1"})
NO: Final = frozenset({"", "false", "no", "0"})

IDENTITY: Final = ("network", "action", "scope", "endpoint_id", "is_dry_run")
Identity = tuple[str, str, str, UUID | None, bool]


@dataclass(frozen=True, slots=True)
class Problem:
    """Line 0: the text as a whole."""

    line: int
    message: str


@dataclass(slots=True)
class Reading:
    """What a text says. With any problem nothing of it is imported."""

    rules: list[IPRule] = field(default_factory=list)
    existing: int = 0  # lines whose rule is there already, or stands above
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    digest: str = ""

    def add_problem(self, line: int, message: str) -> None:
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(line, message))


class BadLine(ValueError):
    """A line that is no rule; the text says what is wrong with it."""


# -- reading --


def read(text: str, defaults: Mapping[str, Any]) -> Reading:
    """Read and judge all lines, changing nothing. ``defaults`` are values of IPRule's fields."""
    reading = Reading(digest=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest())
    lines = list(_lines(text.removeprefix("\ufeff"), reading))
    if len(lines) > MOST_LINES:
        reading.add_problem(0, _("At most %(most)s rules at once.") % {"most": MOST_LINES})
        return reading
    known: set[Identity] = set(IPRule.objects.in_force().values_list(*IDENTITY))
    for number, cells in lines:
        try:
            _take(_rule(cells, defaults), reading, known)
        except BadLine as error:
            reading.add_problem(number, str(error))
    if not (lines or reading.problem_count):
        reading.add_problem(0, _("There is no network in it."))
    return reading


def _take(rule: IPRule, reading: Reading, known: set[Identity]) -> None:
    identity = (rule.network, rule.action, rule.scope, rule.endpoint_id, rule.is_dry_run)
    if identity in known:
        reading.existing += 1
    else:
        known.add(identity)
        reading.rules.append(rule)


def _lines(text: str, reading: Reading) -> Iterator[tuple[int, dict[str, str]]]:
    """(number, cells by column) of each line that says something."""
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    names = [name.strip().strip('"').lower() for name in first.split(",")]
    if "network" not in names:
        yield from _plain(text)
    elif unknown := sorted(set(names) - set(COLUMNS)):
        said = {"unknown": ", ".join(unknown), "known": ", ".join(COLUMNS)}
        reading.add_problem(1, _("Unknown columns: %(unknown)s. Known are: %(known)s.") % said)
    else:
        yield from _table(text, names, reading)


def _plain(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        network, _hash, note = line.partition("#")
        if network.strip():
            yield number, {"network": network.strip(), **({"note": note.strip()} if note.strip() else {})}


def _table(text: str, names: list[str], reading: Reading) -> Iterator[tuple[int, dict[str, str]]]:
    rows = csv.reader(StringIO(text, newline=""), strict=True)
    seen_names = False
    try:
        for cells in rows:
            is_empty = not any(cell.strip() for cell in cells) or cells[0].startswith("#")
            if not is_empty and seen_names:
                yield rows.line_num, _named(names, cells, rows.line_num, reading)
            seen_names = seen_names or not is_empty
    except csv.Error as error:
        reading.add_problem(rows.line_num, _("This is no CSV: %(error)s.") % {"error": error})


def _named(names: list[str], cells: list[str], number: int, reading: Reading) -> dict[str, str]:
    if len(cells) > len(names):
        reading.add_problem(number, _("The line has more cells than there are columns."))
    pairs = zip(names, (cell.strip() for cell in cells), strict=False)
    return {name: value.removeprefix("'") if name == "note" else value for name, value in pairs if value}


def _rule(cells: Mapping[str, str], defaults: Mapping[str, Any]) -> IPRule:
    """One line as a rule, not saved. Raises BadLine."""
    rule = IPRule(
        network=_network(cells.get("network", "")),
        action=_choice("action", cells.get("action") or defaults["action"], IPRule.Action.values),
        scope=_choice("scope", cells.get("scope") or defaults["scope"], IPRule.Scope.values),
        endpoint_id=_endpoint(cells.get("endpoint", "")) or defaults.get("endpoint_id"),
        expires_at=_time(cells.get("expires_at", "")) or defaults.get("expires_at"),
        is_dry_run=_flag(cells["dry_run"]) if "dry_run" in cells else bool(defaults.get("is_dry_run")),
        note=cells.get("note") or defaults.get("note", ""),
    )
    if len(rule.note) > 200:
        raise BadLine(_("The note is longer than 200 characters."))
    if rule.endpoint_id and rule.scope != IPRule.Scope.WEBHOOKS:
        raise BadLine(_("Only a rule for webhooks can name an endpoint."))
    return rule


def _network(text: str) -> str:
    try:
        return normalise(text)
    except ValueError:
        raise BadLine(_("%(text)s is no network. Write it like 10.0.0.0/8.") % {"text": text[:60]}) from None


def _choice(name: str, value: str, known: Iterable[str]) -> str:
    if (found := str(value).lower()) in (choices := list(known)):
        return found
    said = {"name": name, "known": ", ".join(choices), "value": str(value)[:40]}
    raise BadLine(_("%(name)s is one of %(known)s, not %(value)s.") % said)


def _endpoint(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise BadLine(_("The endpoint is given by its id.")) from None


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise BadLine(_("expires_at is a time like 2030-01-31T12:00:00Z."))
    moment = found if timezone.is_aware(found) else timezone.make_aware(found)
    if moment <= timezone.now():
        raise BadLine(_("expires_at is in the past."))
    return moment


def _flag(text: str) -> bool:
    if text.lower() not in YES | NO:
        raise BadLine(_("dry_run is true or false."))
    return text.lower() in YES


# -- importing, exporting --


def would_lock_out(reading: Reading, address: str) -> bool:
    """Whether the rules of a text would refuse the admin pages or the API to ``address`` (rule N7)."""
    before = IPRule.objects.all().compiled_form()
    return locks_out(before, [*before, *(rule.as_rule() for rule in reading.rules)], address)


def store(reading: Reading, creator: User | None) -> int:
    """Make all the rules, or none; one entry in the audit log tells how many, and the digest of the text."""
    if reading.problem_count:
        raise ValueError("a text with problems is not imported")
    for rule in reading.rules:
        rule.created_by = creator
    with transaction.atomic():
        IPRule.objects.bulk_create(reading.rules, batch_size=BATCH)  # networks are normal already
        told = {"rules": len(reading.rules), "already_there": reading.existing, "sha256": reading.digest}
        audit.record(
            "iprule.imported", changes={name: {"before": None, "after": value} for name, value in told.items()}
        )
        rule_book.rules_changed()
    return len(reading.rules)


def csv_lines(rules: Iterable[IPRule]) -> Iterator[str]:
    """The rules as CSV that an import takes back; no cell is a formula to a spreadsheet."""
    writer = csv.writer(exports.Line(), lineterminator="\r\n")
    yield writer.writerow(COLUMNS)
    for rule in rules:
        expires_at = rule.expires_at.isoformat() if rule.expires_at else ""
        flag = "true" if rule.is_dry_run else "false"
        yield writer.writerow(
            [rule.network, rule.action, rule.scope, rule.endpoint_id or "", expires_at, flag, exports.cell(rule.note)]
        )


def exported() -> str:
    """All rules in force that a person made, as CSV; noted in the audit log."""
    rules = IPRule.objects.in_force().filter(is_automatic=False)
    text = "".join(csv_lines(rules.iterator()))
    audit.record("iprule.exported", changes={"rules": {"before": None, "after": text.count("\r\n") - 1}})
    return text
