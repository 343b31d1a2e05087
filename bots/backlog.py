"""How much waits for a bot, known well enough: one count a second and bot, and what this process added since."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from uuid import UUID

from bots.models import Message

LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class _Known:
    waiting: int
    looked_at_s: float


_known: dict[UUID, _Known] = {}
_guard = threading.Lock()


def is_full(bot_id: UUID, most: int) -> bool:
    """Whether a bot has as many waiting messages as it may; counts one more when not. ``most`` 0: no limit."""
    if not most:
        return False
    with _guard:
        known = _known.get(bot_id)
        if known is None or time.monotonic() - known.looked_at_s > LOOK_EVERY_S:
            known = _known[bot_id] = _Known(_count(bot_id, most), time.monotonic())
        if known.waiting >= most:
            return True
        known.waiting += 1
        return False


def _count(bot_id: UUID, most: int) -> int:
    """Up to the limit: the partial index of what waits keeps it cheap however much is stored."""
    return Message.objects.waiting().order_by().filter(conversation__bot_id=bot_id)[:most].count()
