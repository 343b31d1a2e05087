"""Whether this installation is whole: what ``manage.py doctor`` asks, and what to do about each finding.

Checks run one after the other, only when somebody asks, and may take seconds. The apps above register theirs. Texts
hold no secret: they are redacted once more before they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from django.utils.translation import gettext as _

from monitoring.redaction import redact

Level = Literal["ok", "warning", "failed"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "warning", "failed")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that works or does not; ``fix`` says what to do, and is there for whatever is not ok."""

    level: Level
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A finding under the name of its check, on one line and without secrets."""

    check: str
    level: Level
    what: str
    fix: str

    @classmethod
    def of(cls, check: str, finding: Finding) -> Line:
        return cls(check, finding.level, _on_one_line(finding.what), _on_one_line(finding.fix))


Check = Callable[[], Iterable[Finding]]

_checks: dict[str, tuple[Check, bool]] = {}


def register(name: str, check: Check, *, needs_database: bool = True) -> None:
    """Ask ``check`` under ``name``, after those registered before it; again replaces.

    One that needs the database is left out while the database is broken.
    """
    _checks[name] = (check, needs_database)


def examine() -> Iterator[Line]:
    """Run all checks. One that breaks down itself is a failed finding; the others go on."""
    is_database_fit = True
    for name, (check, needs_database) in _checks.items():
        if needs_database and not is_database_fit:
            what = _("Not checked, because the database cannot be used.")
            yield Line.of(name, Finding("warning", what, _("Mend the database, then run doctor again.")))
            continue
        lines = [Line.of(name, finding) for finding in _run(check)]
        yield from lines
        is_database_fit = is_database_fit and not (name == "database" and worst(lines) == "failed")


def worst(lines: Iterable[Line]) -> Level:
    return LEVELS[max((LEVELS.index(line.level) for line in lines), default=0)]


def _run(check: Check) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check())  # what was found before it broke down stays
    except Exception as error:  # noqa: BLE001  (whatever is wrong with one thing, the others are still to be looked at)
        what = _("This check broke down: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
        found.append(Finding("failed", what, _("Look at the lines above; if they are fine, report it.")))
    return found


def _on_one_line(text: str) -> str:
    return " ".join(redact(text).split())[:500]
