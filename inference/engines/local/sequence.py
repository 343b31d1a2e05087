"""One request as the scheduler sees it: token ids, what of them is in the cache, and where. Knows no text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from inference.base import Finish
from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.vision import Picture


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose this sequence's tokens. Temperature 0 is greedy; top_k 0 and top_p 1 leave all candidates in."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


class Listener(Protocol):
    """Where a sequence's tokens go. Called by the dispatcher's thread only; must bear what comes after the end."""

    def take(self, token: int | None, finish: Finish | None, error: str) -> None: ...


@dataclass(slots=True, eq=False)
class Sequence:
    """``tokens`` are the prompt and the answer so far, as far as the host knows them."""

    id: str
    tokens: list[int]
    max_new_tokens: int
    sampling: Sampling = Sampling()
    end_ids: frozenset[int] = frozenset()
    scope: bytes = b""  # sequences share cached pages only within one scope
    priority: int = 0
    arrived_at: float = 0.0
    ends_at: float = math.inf
    listener: Listener | None = None
    picture: Picture | None = None

    prompt_tokens: int = field(init=False)
    is_over: bool = False  # nobody wants more of it; set by any thread
    computed: int = 0  # how many tokens have their keys and values in the cache
    in_flight: int = 0  # tokens that are sampled, but still on the device
    pages: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)  # of its whole pages, as far as they were needed
    indexed: int = 0  # how many of its pages others may share
    slot: int = -1  # its row in the runner's tables while it runs

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)

    @property
    def is_running(self) -> bool:
        return self.slot >= 0

    @property
    def needs_picture(self) -> bool:
        """The model must still see its pictures."""
        return self.picture is not None and self.computed < self.picture.end

    @property
    def remaining(self) -> int:
        """How many tokens must be computed before the next one can be sampled."""
        return len(self.tokens) + self.in_flight - self.computed

    @property
    def is_written(self) -> bool:
        """All the tokens it may have are sampled."""
        return len(self.tokens) + self.in_flight - self.prompt_tokens >= self.max_new_tokens


@dataclass(frozen=True, slots=True)
class Row:
    """Compute ``count`` tokens of a sequence from ``start`` on; sample the next one where they reach its end."""

    sequence: Sequence
    start: int
    count: int

    @property
    def samples(self) -> bool:
        return self.start + self.count == len(self.sequence.tokens) + self.sequence.in_flight


@dataclass(frozen=True, slots=True)
class Event:
    """What a step brought for one sequence."""

    sequence: Sequence
    token: int | None = None
    finish: Finish | None = None
    error: str = ""


def pages_for(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS)
