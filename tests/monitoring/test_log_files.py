from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from monitoring.log_files import KEPT_DAYS, DailyFiles

DAY = date(2026, 11, 22)


class Calendar:
    today = DAY

    def __call__(self) -> date:
        return self.today


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def handler(tmp_path: Path, calendar: Calendar) -> Iterator[DailyFiles]:
    made = DailyFiles(str(tmp_path / "log"), calendar)
    yield made
    made.close()


def say(handler: DailyFiles, text: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": text}))


def names(handler: DailyFiles) -> list[str]:
    return sorted(path.name for path in handler.directory.iterdir())


def test_lines_go_into_the_days_file_when_logged(handler):
    say(handler, "eins")
    say(handler, "名字\ud800")

    path = handler.directory / "clawdbot-2026-11-22.log"
    assert path.read_text() == "eins\n名字\\ud800\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_older_files_are_compressed_and_the_oldest_gone_when_days_pass(handler, calendar):
    for number in range(KEPT_DAYS + 3):
        calendar.today = DAY + timedelta(days=number)
        say(handler, f"day {number}")

    kept = names(handler)
    assert len(kept) == KEPT_DAYS
    assert [name.endswith(".gz") for name in kept] == [True] * (KEPT_DAYS - 2) + [False] * 2
    oldest = handler.directory / kept[0]
    assert gzip.decompress(oldest.read_bytes()) == b"day 3\n"
    assert oldest.stat().st_mode & 0o777 == 0o640


def test_two_processes_lose_nothing_when_the_day_turns(handler, calendar, tmp_path):
    other = DailyFiles(str(tmp_path / "log"), calendar)
    say(other, "old day")
    calendar.today += timedelta(days=1)
    say(handler, "new day, first")
    other.stream.write("late\n")  # written by a thread that had the old file in hand
    say(other, "new day, second")
    other.close()

    assert (handler.directory / "clawdbot-2026-11-22.log").read_text() == "old day\nlate\n"
    assert (handler.directory / "clawdbot-2026-11-23.log").read_text() == "new day, first\nnew day, second\n"


def test_lines_go_on_when_the_new_file_cannot_be_opened(handler, calendar, monkeypatch, capsys):
    def full(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("monitoring.log_files._open", full)
    calendar.today += timedelta(days=1)
    say(handler, "still here")

    assert (handler.directory / "clawdbot-2026-11-22.log").read_text() == "still here\n"
    assert "no space left" in capsys.readouterr().err


def test_foreign_files_are_left_alone_when_tidying(handler, calendar):
    (handler.directory / "clawdbot-notes.log").write_text("mine")
    (handler.directory / "other-2001-01-01.log").write_text("mine")
    calendar.today += timedelta(days=30)
    say(handler, "x")

    assert {"clawdbot-notes.log", "other-2001-01-01.log"} <= set(names(handler))
