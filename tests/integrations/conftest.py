"""Every test begins with full buckets and working apps."""

from __future__ import annotations

import pytest

from integrations import breaker, pacing


@pytest.fixture(autouse=True)
def fresh_traffic() -> None:
    pacing.buckets.cache_clear()
    breaker.forget()
