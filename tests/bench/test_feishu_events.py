"""What a reader of the report on Feishu's events sees; and that the event measured is one that the site takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.feishu_events import APP, EVENT_BYTES, NAME, Report, request
from integrations.feishu import events, opening
from integrations.values import IncomingMessage


def report(ours: list[float], theirs: list[float]) -> Report:
    return Report("python -m bench.feishu_events", "2026-11-30", {"CPU": "x"}, 1404, 10, ours, theirs, "1.7.5")


def test_the_event_measured_is_a_whole_message_of_the_size_wanted() -> None:
    given = request()

    value = events.parse(opening.open_request(given, APP), APP)  # type: ignore[arg-type]

    assert isinstance(value, IncomingMessage)
    assert value.is_addressed is True
    assert EVENT_BYTES <= len(given.body) < EVENT_BYTES + 32


@pytest.mark.parametrize(("ours", "word"), [([149.0, 80.0, 400.0], "reached"), ([151.0], "missed")])
def test_the_verdict_follows_the_median(ours: list[float], word: str) -> None:
    assert f"**{word}**" in report(ours, [90.0]).markdown()


def test_a_run_without_the_sdk_says_so(tmp_path: Path) -> None:
    report([40.0, 60.0], []).write(tmp_path)

    page = (tmp_path / f"{NAME}.md").read_text("utf-8")
    assert "The official SDK was not measured in this run." in page
    assert "lark-oapi" not in page
    assert json.loads((tmp_path / f"{NAME}.json").read_text("utf-8"))["ours"] == [40.0, 60.0]
