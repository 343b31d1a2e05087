"""Entries of tests/rules/off fit the source; and `rules_off` tells a check that fails from code that broke."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts import rules, rules_off
from scripts.rules_off import Misfit, Off

ENTRIES = rules_off.entries()
DOOR = """
def is_let_in(word):
    if word != "sesame":
        return False
    return True
"""
TESTS = """
import pytest
import door

def test_a_wrong_word_stays_outside():
    assert not door.is_let_in("open")

def test_of_something_else():
    assert True

@pytest.mark.skip
def test_that_is_skipped():
    assert not door.is_let_in("open")
"""


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.rule}-{entry.test.rpartition('::')[2]}")
def test_an_entry_fits_the_source(entry: Off) -> None:
    source = rules_off.switched_off(entry, rules_off.ROOT)

    if entry.file.endswith(".py"):
        compile(source, entry.file, "exec")
    assert entry.rule in rules.texts()["rules"]


def test_every_entry_names_a_test_marked_with_its_rule() -> None:
    marked = {(rule, proof.test) for proof in rules.proofs() for rule in proof.rules}

    assert [e for e in ENTRIES if (e.rule, e.test.partition("[")[0]) not in marked] == []


def test_every_rule_can_be_switched_off() -> None:
    known = rules.texts()
    off = {entry.rule for entry in ENTRIES}
    later = [rule for rule, what in known["with_operations"].items() if what == "all of it"]

    assert [rule for rule in known["rules"] if rule not in {*off, *later, *known["missing"]["off"]}] == []


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with a door and its tests, as git sees it."""
    files = {"door.py": DOOR, "test_door.py": TESTS, "tests/__init__.py": "", "tests/rules/__init__.py": ""}
    files["tests/rules/results.py"] = (rules_off.ROOT / "tests/rules/results.py").read_text()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(rules_off, "ROOT", tmp_path)
    for name in ("DJANGO_SETTINGS_MODULE", "TEST_POSTGRES_URL"):  # the small project is not of Django
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return tmp_path


def off(becomes: str, test: str = "test_a_wrong_word_stays_outside", line: str = 'if word != "sesame":') -> Off:
    return Off("N4", "door.py", line, becomes, f"test_door.py::{test}")


def test_a_rule_off_is_noticed_or_not_or_broken(tree: Path) -> None:
    entries = {
        off("if False:"): "noticed",
        off("if False:", "test_of_something_else"): "NOT NOTICED",
        off("if nobody_knows:"): "broken: the test fails, but not by a check",
        off("if False: import"): "broken: the test fails, but not by a check",
        off("if False:", "test_that_is_skipped"): "broken: its test does not pass with the rule on (skipped)",
        off("if False:", "test_nowhere"): "broken: its test does not pass with the rule on (no such test)",
        off("if False:", line="return False or"): (
            "misfit: the text stands 0 times in door.py, not once: 'return False or'"
        ),
    }

    assert dict(rules_off.prove(list(entries), copies=2)) == entries
    assert (tree / "door.py").read_text() == DOOR  # nothing is changed in place


@pytest.mark.parametrize(("line", "times"), [("nowhere", 0), ("return", 2)])
def test_a_text_that_stands_not_once_is_a_misfit(tree: Path, line: str, times: int) -> None:
    with pytest.raises(Misfit, match=f"stands {times} times"):
        rules_off.switched_off(off("", line=line), tree)
