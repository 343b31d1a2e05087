"""When an answer has gone on long enough: stop strings and endless repetition. Pure."""

from __future__ import annotations

from collections import defaultdict

from inference.text import held_back


class StopStrings:
    """Cuts text that comes in pieces before the first stop string, and holds back what may become one."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(filter(None, stop))
        self._held = ""
        self.is_hit = False

    def feed(self, piece: str) -> str:
        """Return what can be shown now."""
        if self.is_hit or not self._stop:
            return "" if self.is_hit else piece
        text = self._held + piece
        found = [at for at in map(text.find, self._stop) if at >= 0]
        self.is_hit = bool(found)
        shown = min(found) if found else len(text) - held_back(text, self._stop)
        self._held = "" if found else text[shown:]
        return text[:shown]

    def close(self) -> str:
        """The text has ended: return what was held back."""
        held, self._held = self._held, ""
        return held


class RepetitionGuard:
    """Notices that the last three copies of a block of 20 to 200 tokens are equal."""

    COPIES, SHORTEST, LONGEST = 3, 20, 200

    def __init__(self) -> None:
        self._count = 0
        self._seen_at: defaultdict[int, list[int]] = defaultdict(list)
        self._runs: dict[int, int] = {}  # distance -> how many tokens in a row equal the one that far back

    def feed(self, token: int) -> bool:
        """Return whether the answer turns in circles."""
        at, self._count = self._count, self._count + 1
        recent = [seen for seen in self._seen_at[token] if at - seen <= self.LONGEST]
        distances = [at - seen for seen in recent if at - seen >= self.SHORTEST]
        self._runs = {distance: self._runs.get(distance, 0) + 1 for distance in distances}
        self._seen_at[token] = [*recent, at]
        return any(run >= (self.COPIES - 1) * distance for distance, run in self._runs.items())
