"""The list of checks, and the command that shows what they find."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from django.core.management import call_command

from monitoring import doctor
from monitoring.doctor import Finding, Line

FINE = Finding("ok", "All is well.")
BAD = Finding("failed", "It is broken.", "Mend it.")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_checks", {})


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", *words)
    logging.disable(logging.NOTSET)  # the command is silent to the end of its process, and this one goes on
    return int(str(ended.value.code)), capsys.readouterr().out


def test_a_check_that_breaks_down_is_a_finding_and_the_others_go_on(checks: None) -> None:
    def breaks() -> Iterator[Finding]:
        yield FINE
        raise ValueError("no such thing")

    doctor.register("first", breaks)
    doctor.register("second", lambda: [FINE])

    assert [(line.check, line.level, line.what) for line in doctor.examine()] == [
        ("first", "ok", "All is well."),
        ("first", "failed", "This check broke down: ValueError: no such thing"),
        ("second", "ok", "All is well."),
    ]


def test_what_needs_the_database_is_left_out_while_it_is_broken(checks: None) -> None:
    doctor.register("database", lambda: [BAD], needs_database=False)
    doctor.register("keys", lambda: [FINE])
    doctor.register("disk", lambda: [FINE], needs_database=False)

    assert [(line.check, line.level) for line in doctor.examine()] == [
        ("database", "failed"),
        ("keys", "warning"),
        ("disk", "ok"),
    ]


def test_a_finding_is_one_line_and_shows_no_password(checks: None) -> None:
    doctor.register("broker", lambda: [Finding("failed", "no\nredis://:pa55word@host/0", "Look\nhere.")])

    assert list(doctor.examine()) == [Line("broker", "failed", "no redis://:***@host/0", "Look here.")]


def test_command_ends_with_1_only_when_something_is_broken(checks: None, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.register("disk", lambda: [FINE, Finding("warning", "It is nearly full.", "Tidy up.")])
    code, shown = run(capsys)
    assert (code, shown.splitlines()[1:]) == (
        0,
        ["warning  disk             It is nearly full. -> Tidy up.", "0 broken, 1 warnings, 2 looked at."],
    )

    doctor.register("site", lambda: [BAD])
    code, shown = run(capsys)
    assert (code, shown.splitlines()[2]) == (1, "BROKEN   site             It is broken. -> Mend it.")


def test_json_is_one_object(checks: None, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.register("site", lambda: [BAD])

    code, shown = run(capsys, "--json")

    assert (code, json.loads(shown)) == (
        1,
        {
            "status": "failed",
            "findings": [{"check": "site", "level": "failed", "what": "It is broken.", "fix": "Mend it."}],
        },
    )
