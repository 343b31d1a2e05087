"""Counts the calls to the platforms, for clawdbot_platform_calls_total."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from integrations.errors import OutcomeUnknown, PlatformError
from monitoring import metrics


@contextmanager
def metered(platform: str, call: str) -> Iterator[None]:
    """``call`` is one of the client's few fixed names: it becomes a label."""
    outcome = "failed"
    try:
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
