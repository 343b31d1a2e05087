"""What a word list would do to a text, for who writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bots.models import WordList
from bots.words import known
from bots.words.scanning import covered

LONGEST_TEXT: Final = 20_000
MOST_TOLD: Final = 100


@dataclass(frozen=True, slots=True)
class Found:
    line: int
    rule: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """``shown`` is the text as it would pass: masked, as it is, or empty where it is blocked."""

    found: list[Found]
    shown: str


def outcome(row: WordList, text: str) -> Outcome:
    """Of the list as it stands in ``row``, stored or not. Raises BadRule."""
    hits = sorted(known.matcher_of(row).hits(text), key=lambda hit: (hit.start, hit.end))
    rules = [(hit.listed.rule, text[hit.start : hit.end], hit.start, hit.end) for hit in hits[:MOST_TOLD]]
    found = [Found(rule.line, rule.source, said, start, end) for rule, said, start, end in rules]
    if not hits or row.action == WordList.Action.WARN:
        return Outcome(found, text)
    return Outcome(found, "" if row.action == WordList.Action.BLOCK else covered(text, hits))
