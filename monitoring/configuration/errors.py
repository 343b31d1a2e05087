"""What is wrong with the files, all of it, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class Bad(ValueError):
    """One thing of a file that cannot be; the text says what to write instead, and never holds a secret."""


@dataclass(frozen=True, slots=True)
class Place:
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ConfigurationError(Exception):
    """Nothing was changed. ``problems`` are whole lines for people."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))
