"""Rule S1: every package is pinned exactly and by hash, nothing else is installed, and each has its reason."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from scripts import install
from tests.deploy.programs import DEPLOY

pytestmark = pytest.mark.rule("S1")
ROOT = DEPLOY.parent
LISTS = sorted((ROOT / "requirements").glob("*.in"))
PIN = re.compile(r"^([a-z0-9-]+(?:\[[a-z0-9,-]+\])?)==[0-9][^\s;]*(?: ; [^\\]+)?((?: --hash=sha256:[0-9a-f]{64})+)$")
# What is installed without a lock, and why.
UNLOCKED = {
    '"$HOME_DIR/.venv/bin/pip" install --quiet --disable-pip-version-check --no-input '
    '${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"': "torch: its wheels differ by index",
    "$(BIN)/python -m pip install -q uv": "the program that writes the locks, on the maintainer's machine",
}


def pins(lock: Path) -> list[str]:
    """One line a package, its hashes behind it."""
    lines = lock.read_text("utf-8").replace(" \\\n", " ").splitlines()
    return [re.sub(r" +", " ", line).strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("lock", [each.with_suffix(".txt") for each in LISTS], ids=lambda lock: lock.name)
def test_every_package_is_pinned_exactly_and_by_hash(lock: Path) -> None:
    found = pins(lock)

    assert [line[:60] for line in found if not PIN.match(line)] == []
    assert len(found) > 5


@pytest.mark.parametrize("wanted", LISTS, ids=lambda wanted: wanted.name)
def test_what_is_asked_for_is_in_the_lock(wanted: Path) -> None:
    locked = {re.split(r"[=\[]", line)[0] for line in pins(wanted.with_suffix(".txt"))}

    assert asked_for(wanted) - locked == set()


@pytest.mark.parametrize("wanted", LISTS, ids=lambda wanted: wanted.name)
def test_what_is_asked_for_has_its_reason(wanted: Path) -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]*\w[^|]* \|$", (ROOT / "docs/dependencies.md").read_text("utf-8"), re.M)
    named = {re.split(r"\[", name)[0] for row in rows for name in row.split(", ")}

    assert asked_for(wanted) - named == set()


@pytest.mark.parametrize("name", ["production", "gpu", "development"])
def test_a_lock_that_holds_the_base_holds_the_same_versions(name: str) -> None:
    base, lock = (pins(ROOT / f"requirements/{one}.txt") for one in ("base", name))

    assert {line for line in base if line not in lock} == set()


def asked_for(wanted: Path) -> set[str]:
    lines = [line.strip() for line in wanted.read_text("utf-8").splitlines()]
    return {re.split(r"[<>=;\[ ]", line)[0] for line in lines if line and line[0] not in "#-"}


def test_whatever_installs_packages_asks_for_their_hashes() -> None:
    files = [ROOT / "Makefile", *DEPLOY.glob("*.sh"), DEPLOY / "cloud-init.yaml"]
    lines = [line.strip() for file in files for line in file.read_text("utf-8").splitlines()]
    installing = [line for line in lines if re.search(r"pip\"? install", line) and not line.startswith("#")]

    assert [line for line in installing if "--require-hashes" not in line and line not in UNLOCKED] == []
    assert len(installing) >= 4


def test_a_package_that_is_not_the_locked_one_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the installer of `make run`: the lock names one package, which somebody exchanged at the index, or no hash."""
    wheel = tmp_path / "index/knock-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    make_wheel(wheel, "good = True\n")
    lock = tmp_path / "requirements/base.txt"
    lock.parent.mkdir()
    lock.write_text(f"knock==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "VENV", tmp_path)
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(wheel.parent), "DRY_RUN": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)  # nothing is really installed
    monkeypatch.setenv("MODEL_ENDPOINT", "https://llm.example.com")

    install.main("run")
    assert (tmp_path / "installed-base").exists()
    (tmp_path / "installed-base").unlink()
    make_wheel(wheel, "good = False\n")
    for text in (lock.read_text(), "knock==1.0\n"):
        lock.write_text(text)
        with pytest.raises(SystemExit, match="Installing failed"):
            install.main("run")
    assert not (tmp_path / "installed-base").exists()


def make_wheel(path: Path, source: str) -> None:
    about = "Metadata-Version: 2.1\nName: knock\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {"knock.py": source, "knock-1.0.dist-info/METADATA": about, "knock-1.0.dist-info/WHEEL": kind}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, "knock-1.0.dist-info/RECORD": ""}.items():
            archive.writestr(name, text)
