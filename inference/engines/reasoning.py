"""Tells a model's thinking from its answer by the ``<think>`` tags, in text that comes in pieces. Pure."""

from __future__ import annotations

from typing import Literal

from inference.text import Splitter, held_back

OPENING, CLOSING = "<think>", "</think>"

Piece = tuple[Literal["answer", "reasoning"], str]


class ReasoningSplitter(Splitter):
    """Feed text, get (kind, text) pieces without the tags.

    An opening tag right after a backtick is a quotation, part of an answer about such tags. White space between the
    thinking and the answer is dropped. A block that is never closed is reasoning to its end.
    """

    def __init__(self, *, is_inside: bool = False) -> None:
        super().__init__(skips_space=is_inside)
        self._is_inside = is_inside

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        pieces: list[Piece] = []
        while (at := self._find_tag()) >= 0:
            self._take(at, pieces)
            self._buffer = self._buffer.removeprefix(self._tag)
            self._is_inside = not self._is_inside
            self._skips_space = True
        self._take(len(self._buffer) - held_back(self._buffer, [self._tag]), pieces)
        return pieces

    def close(self) -> list[Piece]:
        """The text has ended: return what was held back."""
        pieces: list[Piece] = []
        self._take(len(self._buffer), pieces)
        return pieces

    @property
    def _tag(self) -> str:
        return CLOSING if self._is_inside else OPENING

    def _find_tag(self) -> int:
        return self._buffer.find(self._tag) if self._is_inside else self._find(self._tag)

    def _take(self, size: int, pieces: list[Piece]) -> None:
        if text := self._taken(size):
            pieces.append(("reasoning" if self._is_inside else "answer", text))
