"""What a check of an app's connection found, as plain values. Knows no platform, no bot and no Django model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

Level = Literal["failed", "warning", "ok"]

WORST_FIRST: Final[tuple[Level, ...]] = ("failed", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that works or does not. ``what`` is found, ``fix`` says what to do, ``link`` where; no secret in it.

    A ``link`` that begins with a slash is a page of this site.
    """

    level: Level
    what: str
    fix: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class WayIn:
    """How the platform should reach the bot, to be compared with what its console has. Without a mode nobody waits."""

    mode: Literal["", "webhook", "stream"] = ""
    url: str = field(default="", repr=False)  # whoever has it may knock: never shown


NO_WAY_IN: Final = WayIn()


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """What needs somebody comes first; else the order stays."""
    return sorted(findings, key=lambda finding: WORST_FIRST.index(finding.level))


def is_ok(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed; warnings do not stop a bot."""
    return all(finding.level != "failed" for finding in findings)
