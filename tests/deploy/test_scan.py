"""Rule S2: the weekly scan fails closed, and an operator sees it. The tools are stand-ins here; test_scan_tools.py
runs the real ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from clawdbot_site.settings.env import env
from monitoring import scans
from monitoring.alerting import ground, rules
from monitoring.doctor import machine
from monitoring.rollups.keeping import HOST
from tests.deploy.programs import DEPLOY
from tests.monitoring.alerting.made import history, look, told_by, values

pytestmark = pytest.mark.rule("S2")
ROOT = DEPLOY.parent
# The program and the name of its check.
TOOLS = {"pip-audit": "pip-audit", "bandit": "bandit", "semgrep": "semgrep", "detect-secrets-hook": "detect-secrets"}


class Tree:
    """A checkout whose tools all find nothing, and what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.root, self.cache = folder / "tree", folder / "cache"
        for name in ("deploy/scan.sh", "deploy/install.sh", ".secrets.baseline"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "requirements").mkdir()
        for lock in (ROOT / "requirements").glob("*.txt"):
            (self.root / "requirements" / lock.name).write_text("")
        (self.cache / "venv/bin").mkdir(parents=True)
        for tool in TOOLS:
            self.stand_in(tool, "exit 0")
        self.note_installed()

    def stand_in(self, tool: str, does: str) -> None:
        path = self.cache / "venv/bin" / tool
        path.write_text(f'#!/bin/sh\necho "$0 $*" >>{self.cache}/asked\n{does}\n')
        path.chmod(0o755)

    def note_installed(self) -> None:
        words = ["sha256sum", "requirements/scan.txt"]
        done = subprocess.run(words, cwd=self.root, capture_output=True, text=True, check=True)
        (self.cache / "venv/installed").write_text(done.stdout)

    def scan(self) -> subprocess.CompletedProcess[str]:
        words, own = [str(self.root / "deploy/scan.sh")], {"CACHE_DIRECTORY": str(self.cache)}
        return subprocess.run(words, env={**os.environ, **own}, capture_output=True, text=True, check=False)

    @property
    def asked(self) -> list[list[str]]:
        """The words that each tool was called by."""
        lines = (self.cache / "asked").read_text().splitlines()
        return [[Path(line.split()[0]).name, *line.split()[1:]] for line in lines]

    @property
    def result(self) -> str:
        """How it ended, without the time."""
        return (self.cache / "result").read_text().partition(" ")[2].strip()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_scan_that_finds_nothing_is_clean_and_asked_of_every_lock(tree: Tree) -> None:
    done = tree.scan()

    assert (done.returncode, done.stderr, tree.result) == (0, "", "clean")
    *of_locks, of_torch, bandit, semgrep, secrets = tree.asked
    assert [bandit[0], semgrep[0], secrets[0]] == ["bandit", "semgrep", "detect-secrets-hook"]
    locks = {f"requirements/{lock.name}" for lock in (ROOT / "requirements").glob("*.txt")}
    assert {words[-1] for words in of_locks} == locks
    assert len(of_locks) == len(locks)  # one at a time: two locks may hold two versions of a package
    assert all({"pip-audit", "--strict", "--require-hashes"} <= set(words) for words in of_locks)
    assert {"pip-audit", "--strict"} <= set(of_torch)
    assert re.fullmatch(r"torch==[\d.]+\n", (tree.cache / "torch.txt").read_text())


def test_a_hole_in_any_one_lock_fails_the_scan(tree: Tree) -> None:
    tree.stand_in("pip-audit", 'case "$*" in *gpu.txt) exit 1 ;; esac')

    assert (tree.scan().returncode, tree.result) == (1, "failed pip-audit")


@pytest.mark.parametrize("does", ["exit 1", "exit 2", "kill -9 $$", None], ids=["found", "error", "killed", "missing"])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_does_not_end_well_fails_the_scan_and_is_named(tree: Tree, tool: str, does: str | None) -> None:
    if does is None:
        (tree.cache / "venv/bin" / tool).unlink()
    else:
        tree.stand_in(tool, does)
    done = tree.scan()

    name = TOOLS[tool]
    failed = "pip-audit pip-audit-torch" if name == "pip-audit" else name
    assert (done.returncode, tree.result) == (1, f"failed {failed}")
    assert re.search(rf"^scan: {name} ended with \d+\. \w.*\n?.*Then run it again", done.stderr, re.MULTILINE)
    assert {words[0] for words in tree.asked} >= TOOLS.keys() - {tool}  # the others have looked all the same


def test_tools_that_cannot_be_installed_fail_the_scan(tree: Tree) -> None:
    (tree.root / "requirements/scan.txt").write_text("another==1\n")  # and there is no Python to install it with

    done = tree.scan()

    assert done.returncode == 1
    assert tree.result.startswith("failed tools pip-audit ")
    assert "could not be installed: check the network or PIP_INDEX_URL" in done.stderr


def test_a_list_of_secrets_where_only_lines_moved_is_clean(tree: Tree) -> None:
    tree.stand_in("detect-secrets-hook", "exit 3")

    assert (tree.scan().returncode, tree.result) == (0, "clean")


def test_a_scan_that_does_not_end_has_failed(tree: Tree) -> None:
    tree.stand_in("bandit", f"cp {tree.cache}/result {tree.cache}/meanwhile")
    tree.scan()

    assert (tree.cache / "meanwhile").read_text().endswith(" failed unfinished\n")


def test_the_timer_runs_this_script_every_week_and_it_writes_where_the_site_looks() -> None:
    unit, timer = ((DEPLOY / f"systemd/clawdbot-scan.{kind}").read_text() for kind in ("service", "timer"))

    assert re.findall(r"^Exec\w+=(.*)$", unit, re.MULTILINE) == ["/opt/clawdbot/deploy/scan.sh"]
    (folder,) = re.findall(r"^CacheDirectory=(.*)$", unit, re.MULTILINE)
    assert env.scheme["SCAN_RESULT"] == (str, f"/var/cache/{folder}/result")
    assert re.findall(r"^OnCalendar=(\w+)", timer, re.MULTILINE) == ["Sun"]


# -- who sees it --


def write(path: Path, days_ago: float, verdict: str) -> None:
    path.write_text(f"{timezone.now() - timedelta(days=days_ago):%Y-%m-%dT%H:%M:%SZ} {verdict}\n")


@pytest.mark.parametrize(
    ("days_ago", "verdict", "level", "says"),
    [
        (1, "clean", "ok", "clean"),
        (7.9, "clean", "ok", "clean"),
        (8.1, "clean", "warning", "were scanned last at"),
        (1, "failed pip-audit bandit", "failed", "failed: pip-audit, bandit"),
        (1, "failed unfinished", "failed", "failed: unfinished"),
        (1, "fine", "failed", "failed: "),
        (1, "", "failed", "failed: "),
    ],
)
def test_doctor_and_an_alert_tell_of_a_scan_that_failed_or_is_old(
    tmp_path: Path, settings: Any, days_ago: float, verdict: str, level: str, says: str
) -> None:
    settings.SCAN_RESULT = tmp_path / "result"
    write(settings.SCAN_RESULT, days_ago, verdict)
    (found,) = machine.scan()

    assert (found.level, says in found.what) == (level, True)
    assert told_by("packages.scan") == ([] if level == "ok" else [(HOST, "")])
    assert scans.is_bad() == (level != "ok")


def test_the_alert_is_critical_and_waits_longer_than_a_scan_takes() -> None:
    rule = rules.find("packages.scan")
    (limit_min,) = re.findall(
        r"^TimeoutStartSec=(\d+)min$", (DEPLOY / "systemd/clawdbot-scan.service").read_text(), re.M
    )

    assert rule
    assert (rule.severity, rule.for_s > float(limit_min) * 60) == ("critical", True)


def test_a_server_without_a_scan_is_told_of_it_and_a_trial_is_not(settings: Any) -> None:
    levels = []
    for settings.EMBEDDED in (False, True):
        levels.append([found.level for found in machine.scan()])

    assert levels == [["warning"], []]
    assert told_by("packages.scan") == []


def test_another_machines_scan_is_told_too() -> None:
    of_another = history({}, 3, levels={"scan_bad|other": 1.0})

    assert values(ground.bad_scan(look(of_another))) == [("other", "")]
