"""Aho-Corasick: all words of all lists at once, at a price that does not grow with their number. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Automaton:
    """Reads a text sign by sign. A state is a number; 0 is the beginning."""

    def __init__(self, words: Iterable[str]) -> None:
        """``found`` tells words by their place in ``words``. Empty words are never found."""
        self._next: list[dict[str, int]] = [{}]
        self._found: list[tuple[int, ...]] = [()]
        self._shorter: list[int] = [0]  # the state of the longest proper end that begins a word as well
        self.depth: list[int] = [0]  # how many of the last signs read may still become a word
        for index, word in enumerate(words):
            if word:
                state = self._state_of(word)
                self._found[state] = (*self._found[state], index)
        self._link()

    def _state_of(self, word: str) -> int:
        state = 0
        for sign in word:
            following = self._next[state].get(sign)
            if following is None:
                following = len(self._next)
                self._next[state][sign] = following
                self._next.append({})
                self._found.append(())
                self._shorter.append(0)
                self.depth.append(self.depth[state] + 1)
            state = following
        return state

    def _link(self) -> None:
        """Breadth first, so that what is shorter is linked already."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for sign, following in self._next[state].items():
                self._shorter[following] = self.step(self._shorter[state], sign)
                self._found[following] += self._found[self._shorter[following]]
                waiting.append(following)

    def step(self, state: int, sign: str) -> int:
        while True:
            following = self._next[state].get(sign)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = self._shorter[state]

    def found(self, state: int) -> tuple[int, ...]:
        """The words that end here."""
        return self._found[state]
