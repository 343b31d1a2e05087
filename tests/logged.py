"""What one part of the product logged: its threads may log at the same time as what a test looks at."""

from __future__ import annotations

import logging

import pytest


def by(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    """Records of the logger ``name`` and those below it."""
    return [record for record in caplog.records if f"{record.name}.".startswith(f"{name}.")]
