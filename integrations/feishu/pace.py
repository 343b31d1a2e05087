"""How often a long connection speaks and tries again: what Feishu asks for, within our own bounds. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Feishu's ClientConfig. ``tries`` is how often it wants to be asked in a row, negative for ever.

    ``least_s`` bounds all that Feishu may shorten, so that no answer of it makes us hammer; ``recheck_s`` is the wait
    when only an admin can help, or when Feishu does not want to be asked any more.
    """

    ping_s: float = 120.0
    interval_s: float = 120.0
    nonce_s: float = 30.0
    tries: int = -1
    least_s: float = 1.0
    margin_s: float = 30.0
    recheck_s: float = 600.0

    @property
    def silence_s(self) -> float:
        """After so long without any frame the path is dead: two pongs are missing."""
        return 2 * self.ping_s + self.margin_s

    def pause_s(self, failures: int) -> float:
        """How long to wait before the next try, after so many in a row that failed (0: a connection was lost).

        The first is drawn, because a restart of the platform cuts everybody's connection at once.
        """
        if 0 <= self.tries < failures:
            return self.recheck_s
        wait_s = self.interval_s if failures > 1 else random.uniform(0, self.nonce_s)  # noqa: S311 - jitter
        return max(wait_s, self.least_s)

    def adopt(self, config: Any) -> Pace:
        """This pace with what a ClientConfig says; what is missing or makes no sense stays as it is."""
        if not isinstance(config, Mapping):
            return self
        return replace(
            self,
            ping_s=max(_seconds(config.get("PingInterval"), self.ping_s), self.least_s),
            interval_s=_seconds(config.get("ReconnectInterval"), self.interval_s),
            nonce_s=_seconds(config.get("ReconnectNonce"), self.nonce_s),
            tries=_count(config.get("ReconnectCount"), self.tries),
        )


def _seconds(value: Any, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(min(value, LONGEST_S)) if is_number and value >= 0 else otherwise


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
