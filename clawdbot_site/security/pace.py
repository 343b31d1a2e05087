"""How many requests an address may send (rule A10), counted in this process: no query, no other machine.

Every request moves the time at which its caller is even again by its share of a minute; more than a minute ahead, it
has to wait. So a whole minute's requests may come at once, and go on coming evenly after that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from clawdbot_site.security.ip_rules import caller_of

WINDOW_S: Final = 60.0
MOST_CALLERS: Final = 50_000


class Pace:
    """Used by the event loop alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._even_at: dict[str, float] = {}

    def wait_s(self, address: str, per_minute: int) -> int:
        """Count a request; how many seconds its sender should wait, 0 if it may go on. ``per_minute`` 0: no limit."""
        if not per_minute or not address:
            return 0
        caller = caller_of(address) if ":" in address else address
        now = self._clock()
        even_at = max(self._even_at.get(caller, now), now) + WINDOW_S / per_minute
        if even_at > now + WINDOW_S + 1e-6:
            return math.ceil(even_at - now - WINDOW_S)
        if len(self._even_at) >= MOST_CALLERS:
            self._forget(now)
        self._even_at[caller] = even_at
        return 0

    def _forget(self, now: float) -> None:
        """Who is even again; if that makes no room, everybody."""
        busy = {caller: at for caller, at in self._even_at.items() if at > now}
        self._even_at = busy if len(busy) < MOST_CALLERS // 2 else {}
