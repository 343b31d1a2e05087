"""A pytest plugin: writes how each test ended, as JSON. scripts/rules.py and scripts/rules_off.py read it.

-p tests.rules.results --rule-results FILE
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A switched-off rule must be noticed by a check, not by code that no longer runs.
NO_CHECK = (ImportError, SyntaxError, NameError, AttributeError, TypeError)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rule-results", type=Path, help="where to write how each test ended")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--rule-results") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config.getoption("--rule-results")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if call.excinfo is not None and report.failed:
        broken = call.when != "call" or call.excinfo.errisinstance(NO_CHECK)
        report.user_properties.append(("broken" if broken else "noticed", call.excinfo.typename))
    return report


class Results:
    """Collects in the process that speaks to the person (workers of xdist send their reports there)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ended: dict[str, str] = {}
        self.broken: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.ended[report.nodeid] = self.outcome(report)

    def outcome(self, report: pytest.TestReport) -> str:
        """A test that failed stays failed when its teardown fails too."""
        is_broken = any(name == "broken" for name, _value in report.user_properties)
        outcome = "broken" if report.failed and is_broken else report.outcome
        return "failed" if self.ended.get(report.nodeid) == "failed" else outcome

    def pytest_sessionfinish(self) -> None:
        self.file.write_text(json.dumps({**self.ended, **dict.fromkeys(self.broken, "broken")}))
