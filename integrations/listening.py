"""The border between the supervisor of long connections and a platform's own client. Plain Python.

Who connects, and on which machine, is decided above (``bots/listening.py``); how the platform speaks, below.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from integrations.values import Inbound

State = Literal["connecting", "connected", "waiting", "refused"]


class Deliver(Protocol):
    async def __call__(self, event: Inbound) -> Mapping[str, Any] | None:
        """Take an event; it is durable when this returns, and only then may the platform be told so.

        Returns what the platform is to be answered, where an event wants more than "taken". Raises NotTaken.
        """


class Report(Protocol):
    def __call__(self, state: State, detail: str = "", *, heard: bool = False) -> None:
        """Tell how the connection is. Never blocks.

        ``waiting`` and ``refused`` both try again later; ``refused`` means that an admin has to act, and ``detail``
        says what to do. ``heard``: the platform just spoke.
        """


class LongConnection(ABC):
    """One app's long connection. Holds it until cancelled, renewing and reconnecting by itself."""

    @abstractmethod
    async def run(self, deliver: Deliver, report: Report) -> None:
        """Returns only by cancellation, and then with every socket closed."""


class Pauses:
    """Waiting times between attempts: exponential, with full jitter, so that many clients never come back at once."""

    def __init__(self, first_s: float = 1.0, longest_s: float = 30.0) -> None:
        self._first_s, self._longest_s, self._failures = first_s, longest_s, 0

    def next_s(self) -> float:
        most_s = min(self._longest_s, self._first_s * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        return random.uniform(0, most_s)  # noqa: S311  (spreads load; no secret)

    def reset(self) -> None:
        """The platform was heard: the next pause is short again."""
        self._failures = 0
