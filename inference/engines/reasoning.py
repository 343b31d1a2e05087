"""Tells a model's thinking from its answer by the ``<think>`` tags, in text that comes in pieces. Pure."""

from __future__ import annotations

from typing import Literal

from inference.text import held_back

OPENING, CLOSING = "<think>", "</think>"

Piece = tuple[Literal["answer", "reasoning"], str]


class ReasoningSplitter:
    """Feed text, get (kind, text) pieces without the tags.

    An opening tag right after a backtick is a quotation, part of an answer about such tags. White space between the
    thinking and the answer is dropped. A block that is never closed is reasoning to its end.
    """

    def __init__(self, *, is_inside: bool = False) -> None:
        self._is_inside = is_inside
        self._skips_space = is_inside
        self._buffer = ""
        self._last_character = ""

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
        at = self._buffer.find(self._tag)
        while at >= 0 and not self._is_inside and self._is_quoted(at):
            at = self._buffer.find(self._tag, at + 1)
        return at

    def _is_quoted(self, at: int) -> bool:
        return (self._buffer[at - 1] if at else self._last_character) == "`"

    def _take(self, size: int, pieces: list[Piece]) -> None:
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self._last_character = text[-1:] or self._last_character
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        if text:
            pieces.append(("reasoning" if self._is_inside else "answer", text))
