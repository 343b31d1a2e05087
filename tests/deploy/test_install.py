"""install.sh: what can be seen without installing anything. On bare machines it is run by hand (docs/operations.md)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts import install
from tests.deploy.programs import DEPLOY

INSTALL = DEPLOY / "install.sh"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(INSTALL), *words], capture_output=True, text=True, check=False)


def test_shell_scripts_are_sound() -> None:
    scripts = [str(path) for path in (INSTALL, DEPLOY / "scan.sh")]
    shellcheck = Path(sys.executable).with_name("shellcheck")

    done = subprocess.run([str(shellcheck), *scripts], capture_output=True, text=True, check=False)

    assert done.stdout == ""


def test_help_lists_every_option() -> None:
    shown = run("--help").stdout
    options = re.findall(r"^      (--[a-z-]+)\)", INSTALL.read_text(), re.MULTILINE)

    assert [option for option in options if option not in shown] == []
    assert len(options) > 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dance"], "unknown word --dance"),
        (["--host", "a;b"], "--host a;b is no host name"),
        (["--cert", "/nowhere", "--key", "/nowhere"], "must be readable files"),
    ],
    ids=["unknown", "host", "certificate"],
)
def test_wrong_words_are_said_in_one_line_before_anything_is_done(words: list[str], says: str) -> None:
    done = run(*words)

    assert (done.returncode, says in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)


def test_what_it_starts_is_there() -> None:
    text = INSTALL.read_text()
    started = set(re.findall(r"\bclawdbot[a-z-]*(?:@[a-z]+)?\.(?:service|socket|timer)\b", text))
    units = {path.name for path in (DEPLOY / "systemd").iterdir()}

    assert {re.sub(r"@[a-z]+\.", "@.", name) for name in started} <= units


def test_torch_is_the_version_that_make_run_installs() -> None:
    assert f"\nTORCH={install.TORCH}\n" in INSTALL.read_text()
    assert f"\nCPU_INDEX={install.CPU_INDEX}\n" in INSTALL.read_text()


def test_cloud_init_is_a_cloud_config_that_runs_the_installer() -> None:
    text = (DEPLOY / "cloud-init.yaml").read_text()
    (file,) = yaml.safe_load(text)["write_files"]

    assert text.startswith("#cloud-config\n")
    assert "deploy/install.sh" in file["content"]
    assert [file["path"]] in yaml.safe_load(text)["runcmd"]
