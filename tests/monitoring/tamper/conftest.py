"""A sink for the copies of what was signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitoring import sinks


@pytest.fixture(autouse=True)
def copies(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the one sink; it is out of the attacker's reach."""
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    monkeypatch.setattr(sinks, "_newest_sent", {})
    return tmp_path / "sink"
