"""The systemd units: sound, closed, and together what the documents promise."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.programs import DEPLOY, program

UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
MOST_EXPOSED = 2.0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a server, with what they run in its place."""
    home = tmp_path / "opt"
    (home / "deploy").mkdir(parents=True)
    (home / ".venv/bin").mkdir(parents=True)
    for name in (".venv/bin/python", ".venv/bin/celery", "deploy/scan.sh"):
        shutil.copy("/bin/true", home / name)
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS:
        (folder / unit.name).write_text(unit.read_text().replace("/opt/clawdbot", str(home)))
    return folder


def test_systemd_takes_every_unit(installed: Path) -> None:
    names = [name.name.replace("@.", "@inference.") for name in UNITS]
    command = [program("systemd-analyze"), "verify", "--man=no", *(f"./{name}" for name in names)]
    for name in names:
        if "@" in name:
            (installed / name).symlink_to(installed / name.replace("@inference.", "@."))

    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)

    ours = [line for line in done.stderr.splitlines() if "clawdbot" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_no_unit_may_do_more_than_it_needs(unit: Path) -> None:
    command = [program("systemd-analyze"), "security", "--offline=true", "--no-pager", f"./{unit.name}"]

    done = subprocess.run(command, cwd=unit.parent, capture_output=True, text=True, check=False)

    (exposure,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(exposure) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_every_unit_runs_without_rights_and_starts_again(unit: Path) -> None:
    text = unit.read_text()

    assert "\nUser=clawdbot\n" in text
    if "\nType=oneshot\n" in text:
        assert unit.with_suffix(".timer").exists()
        return
    assert "\nRestart=always\n" in text
    assert ("\nPartOf=clawdbot.service\n" in text) == (unit.name != "clawdbot.service")
