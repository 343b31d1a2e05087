"""Long text cut into messages: at paragraphs, else lines, else words, never inside a character.

Sizes are bytes as they count for Feishu: UTF-8 without ``\\u`` escapes, JSON inside JSON. Pure.
Source: PROTOCOL.md, "Limits".
"""

from __future__ import annotations

import json
import re
import unicodedata

_FENCE = re.compile(r"^([ >]*(?:(?:[-*+]|\d{1,9}\.) [ >]*)*)(`{3,})([^`\n]*)$", re.MULTILINE)
_FENCE_ROOM_BYTES = 200  # to close a code block and to open it again
_JOINERS = "\u200d\ufe0e\ufe0f\u20e3"
_REGIONAL = range(0x1F1E6, 0x1F200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def encoded_bytes(text: str) -> int:
    """What ``text`` takes in a request, where ``content`` is a JSON string that holds JSON."""
    inner = json.dumps(text, ensure_ascii=False)[1:-1]
    return len(json.dumps(inner, ensure_ascii=False).encode()) - 2


def split(text: str, limit_bytes: int) -> list[str]:
    """Cut ``text`` into parts of at most ``limit_bytes`` encoded; blank text gives none."""
    parts: list[str] = []
    rest = text.strip()
    while rest:
        part, rest = cut(rest, limit_bytes)
        parts.append(part)
    return [part for part in parts if part.strip()]


def cut(text: str, limit_bytes: int) -> tuple[str, str]:
    """Return the first part and the rest. A code block that is cut is closed in one and opened again in the other."""
    if len(text) <= limit_bytes and encoded_bytes(text) <= limit_bytes:
        return text, ""
    end = _boundary(text, _fitting(text, limit_bytes - _FENCE_ROOM_BYTES))
    head, rest = text[:end].rstrip(), text[end:]
    fence = _open_fence(head)
    if not fence:
        return head, rest.strip("\n")
    prefix, ticks, info = fence
    return f"{head}\n{prefix}{ticks}", f"{prefix}{ticks}{info}\n{rest.removeprefix(chr(10))}"


def _fitting(text: str, limit_bytes: int) -> int:
    """The number of leading characters that fit."""
    low, high = 1, min(len(text), limit_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if encoded_bytes(text[:middle]) <= limit_bytes else (low, middle - 1)
    return low


def _boundary(text: str, end: int) -> int:
    """The best place to cut at or before ``end``: nothing that leaves the part less than half full."""
    for separator in ("\n\n", "\n", " "):
        place = text.rfind(separator, end // 2, end)
        if place > 0:
            return place
    while end > 1 and _is_joined(text, end):
        end -= 1
    return end


def _is_joined(text: str, place: int) -> bool:
    """Whether the characters on both sides of ``place`` are seen as one: accents, emoji families, flags."""
    before, after = text[place - 1], text[place]
    if before == "\u200d" or after in _JOINERS or unicodedata.combining(after) or ord(after) in _SKIN_TONES:
        return True
    return ord(before) in _REGIONAL and ord(after) in _REGIONAL


def _open_fence(text: str) -> tuple[str, str, str] | None:
    """Indentation, ticks and language of the code block that is still open at the end of ``text``."""
    opened: tuple[str, str, str] | None = None
    for found in _FENCE.finditer(text):
        before, ticks, info = found.groups()
        if opened is None:
            prefix = re.sub(r"[^ >]", " ", before)  # a list's marker indents what follows it
            opened = (prefix, ticks, info)
        elif len(ticks) >= len(opened[1]) and not info.strip():
            opened = None
    return opened
