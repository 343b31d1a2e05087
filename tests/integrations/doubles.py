"""In-memory stand-ins for what the caller gives an adapter: the journal and the token store."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from integrations.base import Step


@dataclass
class MemoryJournal:
    """Keeps the interface's promises: a repeated name has the same key, only a fresh or refused step is new."""

    reply_id: str = "reply-1"
    fence: int = 1
    steps: dict[str, Step] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Step | None:
        return self.steps.get(name)

    def intend(self, name: str) -> Step:
        old = self.steps.get(name)
        if old and old.state != "refused":
            return old
        self.steps[name] = Step(name, f"{self.reply_id}-{name}", "intended", time.time())
        return replace(self.steps[name], is_new=True)

    def done(self, name: str, remote_id: str = "") -> None:
        self.steps[name] = replace(self.steps[name], state="done", remote_id=remote_id)

    def refused(self, name: str, reason: str) -> None:
        self.intend(name)
        self.steps[name] = replace(self.steps[name], state="refused")
        self.reasons[name] = reason

    @property
    def states(self) -> dict[str, str]:
        return {name: step.state for name, step in self.steps.items()}

    def taken_over(self) -> MemoryJournal:
        """The same reply in the hands of a later worker."""
        return MemoryJournal(self.reply_id, self.fence + 1, self.steps, self.reasons)

    def age(self, name: str, seconds: float) -> None:
        """Let the first try lie further back."""
        self.steps[name] = replace(self.steps[name], first_tried_at_s=time.time() - seconds)


class MemoryTokens:
    """One process's tokens; remembers how long each was to live."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.ttls_s: list[float] = []
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def set(self, key: str, value: str, ttl_s: float) -> None:
        self.values[key] = value
        self.ttls_s.append(ttl_s)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def lock(self, key: str) -> AbstractContextManager[bool]:
        return self._lock
