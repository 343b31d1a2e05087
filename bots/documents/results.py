"""What reading a file gives, and why it may give nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Problem = Literal["", "too_large", "encrypted", "broken", "unknown_kind", "old_format", "empty", "too_slow"]

MOST_CHARS: Final = 200_000  # of text from one file; what a model gets of it is decided later
MOST_UNPACKED_BYTES: Final = 200 * 1024 * 1024
MOST_PARTS: Final = 10_000  # entries of an archive, rows of a sheet, pages


@dataclass(frozen=True, slots=True)
class Read:
    """Either text or an image (an encoded file) or a problem. ``is_cut``: there was more text."""

    text: str = ""
    image: bytes = field(default=b"", repr=False)
    problem: Problem = ""
    is_cut: bool = False


class Unreadable(Exception):
    """The file is genuine bytes, but nothing that can be used; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def bounded(pieces: list[str]) -> Read:
    """The pieces as text of at most MOST_CHARS. Raises Unreadable where there is nothing to read."""
    text = "\n".join(pieces).strip()
    if not text:
        raise Unreadable("empty")
    return Read(text=text[:MOST_CHARS], is_cut=len(text) > MOST_CHARS)
