"""Cutting a long text into messages: at paragraphs, lines, words, characters, in this order. Pure.

Fenced code that a cut goes through is closed before it and opened again after it.
Source of the sizes: PROTOCOL.md, "Sizes".
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from integrations.dingtalk.markdown import FENCE

MAX_PARTS = 20
TRUNCATED = "…（回答过长，其余部分已省略 / the rest of this long answer is left out）"


@dataclass(frozen=True, slots=True)
class Size:
    """The most that one message may hold."""

    chars: int
    bytes: int

    def less(self, text: str) -> Size:
        return Size(self.chars - len(text), self.bytes - len(text.encode()))


MESSAGE = Size(chars=3_500, bytes=12_000)  # below msgParam's 15,000 bytes with title, mention and JSON's escapes
CARD = Size(chars=2_800, bytes=12_000)  # cards go blank above about 3,000 characters


def split(text: str, size: Size = MESSAGE, max_parts: int = MAX_PARTS) -> tuple[str, ...]:
    """The parts of ``text`` in order; the last of too many says that the rest is left out."""
    parts: list[str] = []
    rest = text.strip()
    while rest and len(parts) < max_parts:
        part, rest = cut(rest, size)
        if part:
            parts.append(part)
    if rest:
        parts[-1] = f"{cut(parts[-1], size.less(TRUNCATED + '  '))[0]}\n\n{TRUNCATED}"
    return tuple(parts)


def cut(text: str, size: Size) -> tuple[str, str]:
    """What fits into one message, and the rest; the rest is empty when all fits."""
    if len(text) <= size.chars and len(text.encode()) <= size.bytes:
        return text, ""
    at = _boundary(text, _room(text, size.less(f"\n{FENCE}")))
    head, rest = text[:at].rstrip(), text[at:].strip("\n")
    opening = _open_fence(head)
    if not opening:
        return head, rest.lstrip()
    if head.endswith(opening) and head != opening:  # a fence without a line of code: take it along
        return head.removesuffix(opening).rstrip(), f"{opening}\n{rest}"
    closing, _, after = rest.partition("\n")
    rest = after.strip("\n") if closing == FENCE else f"{opening}\n{rest}"
    return f"{head}\n{FENCE}", rest


def _room(text: str, size: Size) -> int:
    """How many characters fit."""
    window = text[: size.chars].encode()
    return len(window[: size.bytes].decode(errors="ignore"))


def _boundary(text: str, room: int) -> int:
    for separator in ("\n\n", "\n", " "):
        at = text.rfind(separator, room // 2, room)
        if at > 0:
            return at + len(separator)
    for at in range(room, max(room - 32, 0), -1):
        if not _are_joined(text[at - 1], text[at]):
            return at
    return room


def _are_joined(left: str, right: str) -> bool:
    """Whether two characters look like one: accents, joined emoji, skin tones, guards."""
    joiners = "\u200b\u200d\ufe0f"
    return right in joiners or left == "\u200d" or bool(unicodedata.combining(right)) or "🏻" <= right <= "🏿"


def _open_fence(text: str) -> str:
    """The line that opened the code in which ``text`` ends; empty outside of code."""
    opening = ""
    for line in text.split("\n"):
        if line.startswith(FENCE):
            opening = "" if opening else line
    return opening
