"""The API keys of one service, taken in turn; a key that was refused rests. Pure, the clock can be given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

REFUSED_REST_S, LIMITED_REST_S = 600.0, 30.0
SHORTEST_REST_S, LONGEST_REST_S = (
    1.0,
    3600.0,
)  # of what services say; none at all would be asked again at once, and again


@dataclass(frozen=True, slots=True)
class ApiKey:
    """``id`` is how whoever gave the key knows it; an empty secret stands for a service that wants none."""

    secret: str = field(repr=False)
    id: str = ""


Refused = Callable[[ApiKey, str, float], None]  # the key, why, and for how many seconds it rests


class KeyRing:
    """Round robin over the keys that do not rest. When all rest, the one whose rest ends first is asked all the same:
    with a single key, the service itself must say when it takes it again.
    """

    def __init__(
        self,
        keys: Sequence[ApiKey],
        on_refused: Refused = lambda key, why, rest_s: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = tuple(keys) or (ApiKey(""),)
        self._on_refused = on_refused
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0
        self._rests_until: dict[ApiKey, float] = {}

    @property
    def secrets(self) -> list[str]:
        return [key.secret for key in self._keys if key.secret]

    def pick(self) -> ApiKey:
        with self._lock:
            turn = self._keys[self._next :] + self._keys[: self._next]
            now = self._clock()
            picked = min(turn, key=lambda key: max(now, self._rests_until.get(key, 0.0)))
            self._next = (self._keys.index(picked) + 1) % len(self._keys)
            return picked

    def has_fresh(self) -> bool:
        """Whether there is a key that does not rest."""
        with self._lock:
            return any(self._rests_until.get(key, 0.0) <= self._clock() for key in self._keys)

    def refused(self, key: ApiKey, status: int, why: str, retry_after_s: float | None) -> None:
        """The service did not take this key now (429), or not at all (401, 403)."""
        usual_s = LIMITED_REST_S if status == 429 and "insufficient_quota" not in why else REFUSED_REST_S
        rest_s = usual_s if retry_after_s is None else min(LONGEST_REST_S, max(SHORTEST_REST_S, retry_after_s))
        with self._lock:
            self._rests_until[key] = self._clock() + rest_s
        self._on_refused(key, f"HTTP {status}: {why}" if why else f"HTTP {status}", rest_s)

    def taken(self, key: ApiKey) -> None:
        """The service took it."""
        with self._lock:
            self._rests_until.pop(key, None)
