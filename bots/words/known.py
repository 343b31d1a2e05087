"""The word lists of each bot, ready to use: compiled once, looked at again after a second.

Whether a bot has any comes with the bot itself (bots/places.py), so a bot without lists costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from bots.models import Bot, WordList
from bots.words import rules
from bots.words.scanning import Listed, Matcher

logger = logging.getLogger(__name__)
REMEMBERED_S: Final = 1.0
MOST_READ: Final = 500  # lists whose rules are kept
Place = WordList.Place
_FIELDS: Final = ("id", "updated_at", "name", "action", "place", "whole_words")


@dataclass(frozen=True, slots=True)
class Lists:
    """What a bot's questions and answers are searched with; None where nothing is looked for."""

    input: Matcher | None = None
    output: Matcher | None = None


NONE: Final = Lists()
_lists: dict[UUID, tuple[Lists, tuple[Any, ...], float]] = {}
_rules: dict[tuple[UUID, Any], list[rules.Rule]] = {}  # by list and when it was changed
_guard = threading.RLock()


def has_any() -> Exists:
    """For a query of bots: whether lists are in force for each."""
    return Exists(WordList.objects.filter(Q(is_for_all=True) | Q(bots=OuterRef("pk")), is_enabled=True))


def of(bot: Bot) -> Lists:
    if not getattr(bot, "has_word_lists", True):
        return NONE
    with _guard:
        lists, shape, read_at_s = _lists.get(bot.pk, (NONE, (), 0.0))
        if time.monotonic() - read_at_s < REMEMBERED_S:
            return lists
        read_at_s, now = time.monotonic(), _shape(bot)
        if now != shape:
            lists = _compiled(now)
        _lists[bot.pk] = lists, now, read_at_s
        return lists


def forget() -> None:
    """Look again at the next question; what is unchanged need not be compiled again."""
    with _guard:
        for pk, (lists, shape, _read_at_s) in _lists.items():
            _lists[pk] = lists, shape, -REMEMBERED_S


def matcher_of(row: WordList) -> Matcher:
    """Of one list alone, as it stands in ``row``. Raises BadRule."""
    return Matcher(_listed(row, rules.read(row.text)))


def _shape(bot: Bot) -> tuple[Any, ...]:
    rows = WordList.objects.filter(Q(is_for_all=True) | Q(bots=bot), is_enabled=True).distinct()
    return tuple(rows.order_by("name").values_list(*_FIELDS))


def _compiled(shape: tuple[Any, ...]) -> Lists:
    rows = [WordList(**dict(zip(_FIELDS, values, strict=True))) for values in shape]
    return Lists(_matcher(rows, Place.INPUT), _matcher(rows, Place.OUTPUT))


def _matcher(rows: list[WordList], place: str) -> Matcher | None:
    wanted = [row for row in rows if row.place in (place, Place.BOTH)]
    found = [listed for row in wanted for listed in _listed(row, _rules_of(row))]
    return Matcher(found) if found else None


def _listed(row: WordList, found: list[rules.Rule]) -> list[Listed]:
    action: Any = row.action
    return [Listed(rule, str(row.pk), row.name, action, row.whole_words) for rule in found]


def _rules_of(row: WordList) -> list[rules.Rule]:
    key = row.pk, row.updated_at
    if key not in _rules:
        if len(_rules) >= MOST_READ:
            _rules.clear()
        text = WordList.objects.filter(pk=row.pk).values_list("text", flat=True).first()
        try:
            _rules[key] = rules.read(text or "")
        except rules.BadRule as error:  # nobody can enter one; it came past the checks
            logger.error("a word list cannot be used", extra={"word_list": row.name, "reason": str(error)})
            return []
    return _rules[key]
