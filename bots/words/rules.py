"""A list as people write it: one rule a line. Read into rules, or refused with the line and what to do. Pure.

    # a comment
    bad word
    /1[3-9]\\d{9}/        a pattern, between slashes
    \\#word, \\/word      a word that begins with one of these signs

Patterns are Python's regular expressions within limits that bound what they can cost: at most LONGEST_MATCH signs, no
looking around, no references back. Whatever still takes too long is stopped at PATIENCE_S (``regex`` can) and counts
as found: who guards does not fall asleep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import regex
from django.utils.translation import gettext as _

from bots.words.folding import fold

LONGEST_WORD: Final = 100
LONGEST_MATCH: Final = 200  # signs: an answer that is shown while it grows stays as far behind
LONGEST_PATTERN: Final = 500
MOST_RULES: Final = 20_000
MOST_PATTERNS: Final = 200
PATIENCE_S: Final = 0.1  # of one pattern and one text
_TRIALS: Final = ("a" * 3_000 + "!", "1" * 3_000 + "!", "a1 " * 1_000 + "!", "字" * 3_000, "a@a." * 700, "-" * 3_000)
_LOOKS_ELSEWHERE: Final = frozenset({"ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS", "GROUPREF_IGNORE"})


class BadRule(ValueError):
    """``line`` counts from 1. The text says what is wrong and what to write instead."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(_("Line %(line)d: %(reason)s") % {"line": line, "reason": reason})
        self.line = line


@dataclass(frozen=True, slots=True)
class Rule:
    """``word`` is folded, and empty for a pattern. ``longest`` is how many signs can match."""

    line: int
    source: str
    word: str = ""
    pattern: regex.Pattern[str] | None = None
    longest: int = 0


def read(text: str) -> list[Rule]:
    """All rules of a list. Raises BadRule for the first line that is none."""
    rules = list(_rules(text))
    if len(rules) > MOST_RULES:
        raise BadRule(rules[MOST_RULES].line, _("a list may have %(most)d rules.") % {"most": MOST_RULES})
    if len(patterns := [rule for rule in rules if rule.pattern]) > MOST_PATTERNS:
        reason = _("a list may have %(most)d patterns. Words cost nothing.") % {"most": MOST_PATTERNS}
        raise BadRule(patterns[MOST_PATTERNS].line, reason)
    return rules


def check(text: str) -> None:
    """As ``read``, for entered lists: patterns are also tried on texts that are made to be slow. Raises BadRule."""
    for rule in read(text):
        if rule.pattern and not _is_quick(rule.pattern):
            raise BadRule(rule.line, _("this pattern takes too long on some texts. Make its repetitions clearer."))


def _rules(text: str) -> Iterator[Rule]:
    for number, line in enumerate(text.splitlines(), start=1):
        source = line.strip()
        if source and not source.startswith("#"):
            is_pattern = len(source) > 2 and source.startswith("/") and source.endswith("/")
            yield _pattern(number, source) if is_pattern else _word(number, source)


def _word(line: int, source: str) -> Rule:
    word = fold(source[1:] if source.startswith(("\\#", "\\/")) else source)
    if not word:
        raise BadRule(line, _("there is nothing in it to look for."))
    if len(word) > LONGEST_WORD:
        raise BadRule(line, _("a word may have %(most)d signs.") % {"most": LONGEST_WORD})
    return Rule(line, source, word=word, longest=len(word))


def _pattern(line: int, source: str) -> Rule:
    written = source[1:-1]
    if len(written) > LONGEST_PATTERN:
        raise BadRule(line, _("a pattern may be %(most)d signs long.") % {"most": LONGEST_PATTERN})
    try:
        parsed: Any = re._parser.parse(written, re.IGNORECASE)  # type: ignore[attr-defined]  # how long it can match
        made = regex.compile(written, regex.IGNORECASE | regex.V0)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise BadRule(line, _("this is no regular expression: %(error)s.") % {"error": error}) from None
    if _LOOKS_ELSEWHERE & set(_operations(parsed)):
        raise BadRule(line, _("patterns cannot look around or refer back to a group."))
    shortest, longest = parsed.getwidth()
    if shortest == 0:
        raise BadRule(line, _("it would be found everywhere, because it can match nothing at all."))
    if longest > LONGEST_MATCH:
        reason = _("it can match without end. Write {1,%(most)d} or less instead of + or *, %(most)d signs in all.")
        raise BadRule(line, reason % {"most": LONGEST_MATCH})
    return Rule(line, source, pattern=made, longest=longest)


def _operations(parsed: Any) -> Iterator[str]:
    """The names of all operations of a parsed pattern, however deep."""
    if isinstance(parsed, list | tuple) or hasattr(parsed, "data"):
        for part in getattr(parsed, "data", parsed):
            yield from _operations(part)
    elif hasattr(parsed, "name"):
        yield parsed.name


def _is_quick(pattern: regex.Pattern[str]) -> bool:
    try:
        for trial in _TRIALS:
            for _match in pattern.finditer(trial, overlapped=True, timeout=PATIENCE_S):
                pass
    except TimeoutError:
        return False
    return True
