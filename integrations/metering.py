"""Counts the calls to the platforms: for clawdbot_platform_calls_total, and against the month's quota.

Plain Python: the meter that keeps the month's figures in the database is in ``quota_meter.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

from integrations.errors import OutcomeUnknown, PlatformError
from monitoring import metrics, tracing

Quota = Literal["api", "webhook"]

SPARING_SHARE: Final = 0.8  # from here on a streamed answer grows in few, large steps
SINGLE_SHARE: Final = 0.95  # from here on it comes at once, as one message
SPARING_PAUSE_S: Final = 5.0


class QuotaMeter(Protocol):
    """What a company's plan allows in a month. ``credential_id`` is that of Credentials. Safe in all threads."""

    def count(self, credential_id: str, quota: Quota) -> None:
        """One billed call. Costs no query."""

    def share(self, credential_id: str, quota: Quota) -> float:
        """How much of this month's quota is used: 0 where none is watched, 1 or more when it is used up."""

    def use_up(self, credential_id: str, quota: Quota) -> None:
        """The platform says that nothing is left of this month's quota."""


class Unmetered:
    """Where nobody watches a quota."""

    def count(self, credential_id: str, quota: Quota) -> None:
        """Nothing."""

    def share(self, credential_id: str, quota: Quota) -> float:
        return 0.0

    def use_up(self, credential_id: str, quota: Quota) -> None:
        """Nothing."""


def streaming_pause_s(share: float) -> float:
    """The least time between two steps of a streamed answer: infinite when it must come as one message."""
    if share >= SINGLE_SHARE:
        return math.inf
    return SPARING_PAUSE_S if share >= SPARING_SHARE else 0.0


@contextmanager
def metered(platform: str, call: str) -> Iterator[None]:
    """``call`` is one of the client's few fixed names: it becomes a label."""
    outcome = "failed"
    try:
        with tracing.span(f"{platform} {call}", "client", platform=platform, call=call):
            yield
        outcome = "done"
    except OutcomeUnknown:
        outcome = "unknown"
        raise
    except PlatformError:
        outcome = "refused"
        raise
    finally:
        metrics.platform_call(platform, call, outcome)
