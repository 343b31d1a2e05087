"""Looking for the rules of several lists in one text, also while it grows. Pure.

A growing text is shown only as far as nothing in it can still become part of a match: the end that may be the
beginning of a word is held back, and with patterns as many signs as they can match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bots.words.automaton import Automaton
from bots.words.folding import folded
from bots.words.rules import PATIENCE_S, Rule

Action = Literal["block", "mask", "warn"]
COVER: Final = "＊"  # has no meaning in Markdown


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule and what its list says about it."""

    rule: Rule
    list_id: str
    list_name: str
    action: Action
    whole_words: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """Where in the text, as it was written."""

    listed: Listed
    start: int
    end: int


class Matcher:
    """The rules of some lists, made ready once and shared by all threads."""

    def __init__(self, rules: Sequence[Listed]) -> None:
        self.words = [listed for listed in rules if listed.rule.word]
        self.patterns = [listed for listed in rules if listed.rule.pattern]
        self.automaton = Automaton(listed.rule.word for listed in self.words)
        # One more: a sign behind the match decides whether a word ends there.
        self.window = max((listed.rule.longest + 1 for listed in self.patterns), default=0)

    def hits(self, text: str) -> list[Hit]:
        """All in a complete text."""
        scan = Scan(self)
        return [*scan.feed(text), *scan.end()]


class Scan:
    """One text that grows. ``settled`` is how much of it nothing that follows can change."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._state = 0
        self._length = 0  # of the text as it is written
        self._folded = ""
        self._origins: list[int] = []  # of each folded sign, its place in the text
        self._undecided: list[tuple[Listed, int]] = []  # whole words that end where the text does now, and their start
        self._tried = 0  # folded signs at which every pattern was tried
        self.settled = 0

    def feed(self, piece: str) -> list[Hit]:
        """Read on; returns what was found since the last call and cannot change any more."""
        begun, signs = len(self._folded), []
        for place, sign in enumerate(piece, start=self._length):
            for one in folded(sign):
                signs.append(one)
                self._origins.append(place)
        self._length += len(piece)
        self._folded += "".join(signs)
        found = [*self._words_from(begun), *self._patterns_to(len(self._folded) - self._matcher.window)]
        self.settled = self._origin(self._settled())
        return found

    def end(self) -> list[Hit]:
        """What is found besides, now that nothing follows any more."""
        found = [self._hit(listed, start, len(self._folded)) for listed, start in self._undecided]
        found += self._patterns_to(len(self._folded))
        self._undecided, self.settled = [], self._length
        return found

    def _settled(self) -> int:
        held = self._matcher.automaton.depth[self._state]
        starts = [start for _listed, start in self._undecided]
        return max(0, min(len(self._folded) - max(held, self._matcher.window), *starts, len(self._folded)))

    def _words_from(self, begun: int) -> Iterator[Hit]:
        if not self._matcher.words:
            return
        automaton = self._matcher.automaton
        for place in range(begun, len(self._folded)):
            sign = self._folded[place]
            for listed, start in self._undecided:
                if not _runs_on(sign):
                    yield self._hit(listed, start, place)
            self._undecided = []
            self._state = automaton.step(self._state, sign)
            for index in automaton.found(self._state):
                yield from self._word(self._matcher.words[index], place + 1)

    def _word(self, listed: Listed, end: int) -> Iterator[Hit]:
        start = end - listed.rule.longest
        if not listed.whole_words:
            yield self._hit(listed, start, end)
            return
        is_inside = start > 0 and _runs_on(self._folded[start]) and _runs_on(self._folded[start - 1])
        if is_inside:
            return
        if _runs_on(self._folded[end - 1]):
            self._undecided.append((listed, start))  # the next sign tells
        else:
            yield self._hit(listed, start, end)

    def _patterns_to(self, limit: int) -> Iterator[Hit]:
        """Matches that begin before ``limit``: all that can belong to them has been read."""
        if limit <= self._tried or not self._matcher.patterns:
            return
        for listed in self._matcher.patterns:
            for start, end in self._matches(listed.rule, limit):
                yield self._hit(listed, start, end)
        self._tried = limit

    def _matches(self, rule: Rule, limit: int) -> Iterator[tuple[int, int]]:
        assert rule.pattern is not None
        try:
            for match in rule.pattern.finditer(self._folded, self._tried, overlapped=True, timeout=PATIENCE_S):
                if match.start() >= limit:
                    return
                yield match.span()
        except TimeoutError:
            yield self._tried, limit

    def _hit(self, listed: Listed, start: int, end: int) -> Hit:
        return Hit(listed, self._origins[start], self._origins[end - 1] + 1)

    def _origin(self, place: int) -> int:
        return self._origins[place] if place < len(self._origins) else self._length


def covered(text: str, hits: Sequence[Hit]) -> str:
    """With the signs of these places covered, as many as there were."""
    if not hits:
        return text
    signs = list(text)
    for hit in hits:
        for place in range(hit.start, min(hit.end, len(signs))):
            if not signs[place].isspace():
                signs[place] = COVER
    return "".join(signs)


def _runs_on(sign: str) -> bool:
    """Whether a word of letters would go on with it. Chinese and its neighbours write without such borders."""
    return (sign.isalnum() or sign == "_") and ord(sign) < 0x2E80
