"""How each app's calls end: with success, or so that all its calls would fail. Counted, for alerts; plain Python."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

PREFIX: Final = "app"
WORKS, BROKEN = "works", "broken"

_counted: Counter[str] = Counter()
_lock = threading.Lock()


def note(credential_id: str, outcome: str) -> None:
    with _lock:
        _counted[f"{PREFIX}|{credential_id}|{outcome}"] += 1


def counted() -> dict[str, float]:
    """Running totals of this process, by key of monitoring.rollups."""
    with _lock:
        return {name: float(number) for name, number in _counted.items()}
