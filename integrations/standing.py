"""How each app's last call ended: it works, or all its calls would fail. For alerts; plain Python."""

from __future__ import annotations

import time
from typing import Final

WORKS, BROKEN = "works", "broken"
MOST_APPS: Final = 500

_last: dict[str, tuple[str, float]] = {}  # credential -> outcome, when


def note(credential_id: str, outcome: str) -> None:
    """Costs a dictionary's entry."""
    if credential_id in _last or len(_last) < MOST_APPS:
        _last[credential_id] = outcome, time.time()


def facts() -> dict[str, dict[str, list[str | float]]]:
    """For this process's heartbeat: credential -> [outcome, time stamp]."""
    return {"apps": {pk: [outcome, round(at, 3)] for pk, (outcome, at) in list(_last.items())}}
