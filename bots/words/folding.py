"""Text as words are looked for in it: case, width, accents and invisible signs make no difference. Pure."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # letters and marks that show nothing


@lru_cache(maxsize=1 << 16)
def folded(sign: str) -> str:
    """What stands for one sign; nothing for one that nobody sees, often several for a ligature."""
    if sign in _FILLERS or unicodedata.category(sign) == "Cf" or "\ufe00" <= sign <= "\ufe0f":
        return ""
    if "\u0300" <= sign <= "\u036f":  # an accent that stands by itself
        return ""
    parts = unicodedata.normalize("NFKD", sign)
    plain = parts[0] if len(parts) > 1 and parts[0].isascii() and unicodedata.combining(parts[1]) else None
    return (plain or unicodedata.normalize("NFKC", sign)).casefold()


def fold(text: str) -> str:
    return text.lower() if text.isascii() else "".join(map(folded, text))
