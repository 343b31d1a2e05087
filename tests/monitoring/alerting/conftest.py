from __future__ import annotations

from typing import Any

import pytest

from monitoring.alerting import rules, senders
from monitoring.alerting.rules import Breach, Look, Rule
from tests.monitoring.alerting.made import Heard


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    made = Heard()
    monkeypatch.setattr(senders, "_kinds", {"heard": made.kind()})
    return made


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> list[Breach]:
    """What the only rule that looks finds: fill it, empty it. ``test.rule`` opens after 30 s."""
    found: list[Breach] = []

    def looked(look: Look) -> list[Breach]:
        return list(found)

    only: Any = {
        "test.rule": Rule("test.rule", "Test", "machine", looked, 5, for_s=30, needs_database=False),
        "database.down": Rule("database.down", "Database", "services", severity="critical", for_s=10),
    }
    monkeypatch.setattr(rules, "_rules", only)
    return found
