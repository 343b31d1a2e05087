"""Rules about text that all engines share: pure, knows no model and no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_CHARACTERS_PER_TOKEN = 4  # of ASCII text; any other character counts as a token of its own


def well_formed(text: str) -> str:
    """Replace lone surrogates: neither a tokenizer nor a JSON body can carry them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def held_back(text: str, markers: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` that the next piece may complete to one of ``markers``."""
    longest = min(len(text), max(map(len, markers), default=0) - 1)
    for size in range(longest, 0, -1):
        if any(marker.startswith(text[-size:]) for marker in markers):
            return size
    return 0


class Splitter:
    """A text that comes in pieces, as far as it came and was not passed on yet."""

    def __init__(self, *, skips_space: bool = False) -> None:
        self._buffer = ""
        self._last_character = ""  # of what was passed on
        self._skips_space = skips_space

    def _find(self, marker: str) -> int:
        """Where it stands first, -1 for nowhere. Right after a backtick it is a quotation."""
        at = self._buffer.find(marker)
        while at >= 0 and (self._buffer[at - 1] if at else self._last_character) == "`":
            at = self._buffer.find(marker, at + 1)
        return at

    def _taken(self, size: int) -> str:
        """The next so many characters, without white space that is to be skipped."""
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self._last_character = text[-1:] or self._last_character
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        return text


def estimated_tokens(texts: Iterable[str]) -> int:
    """An ESTIMATE, for services that do not count: right within a factor of two for Chinese and English."""
    text = "".join(texts)
    ascii_count = sum(map(str.isascii, text))
    return len(text) - ascii_count + -(-ascii_count // _CHARACTERS_PER_TOKEN)
