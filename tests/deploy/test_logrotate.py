"""logrotate with our file: daily, 14 kept, compressed, mode 640; a running process writes on into the new file."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.log_files import RotatedFile
from tests.deploy.programs import DEPLOY, program


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[RotatedFile]:
    made = RotatedFile(str(tmp_path / "log"))
    made.LOOK_S = 0.0  # type: ignore[misc]  # a second is long for a test
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Ours, for a folder and an owner of this machine."""
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    text = (DEPLOY / "logrotate/clawdbot").read_text().replace("/var/log/clawdbot", str(tmp_path / "log"))
    path = tmp_path / "clawdbot"
    path.write_text(text.replace("clawdbot clawdbot", f"{user} {group}"))
    path.chmod(0o644)
    return path


def say(handler: RotatedFile, text: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": text}))


def rotate(config: Path, *words: str) -> str:
    command = [program("logrotate"), "--state", str(config.with_name("state")), *words, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_logrotate_understands_the_file(handler: RotatedFile, config: Path) -> None:
    say(handler, "one")

    said = rotate(config, "--debug")

    assert "error" not in said.lower()
    assert "after 1 days (14 rotations)" in said


def test_lines_go_on_in_the_new_file(handler: RotatedFile, config: Path, tmp_path: Path) -> None:
    say(handler, "before")
    rotate(config, "--force")
    say(handler, "after")

    now, old = sorted((tmp_path / "log").iterdir())
    assert (now.name, now.read_text(), old.read_text()) == ("clawdbot.log", "after\n", "before\n")
    assert [path.stat().st_mode & 0o777 for path in (now, old)] == [0o640, 0o640]


def test_a_file_that_was_taken_away_is_made_again(handler: RotatedFile, tmp_path: Path) -> None:
    say(handler, "before")
    (tmp_path / "log/clawdbot.log").unlink()
    say(handler, "after")

    assert (tmp_path / "log/clawdbot.log").read_text() == "after\n"
