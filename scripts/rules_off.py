"""Switches each security rule off, line by line, and shows that its test notices (`make rules-off`).

    python -m scripts.rules_off                 all entries of tests/rules/off/*.toml, one a core at once
    python -m scripts.rules_off --only N4       those of one rule

Works in temporary copies of the tree; nothing is changed in place. An entry counts as noticed when its test passes on
the untouched copy, and fails by a check (an assertion, or an error that was or was not raised) with the line switched
off. Code that no longer runs (an import or name error, a failing fixture) proves nothing and counts as broken. Ends
with 1 when a switched-off rule stays unnoticed, or an entry does not fit the source any more.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("tests/rules/off")
LIMIT_S = 600
ON_POSTGRESQL = threading.Lock()  # the test database has one name on the one server
VERDICTS = {
    "failed": "noticed",
    "passed": "NOT NOTICED",
    "skipped": "not run: the test is skipped here",
    "broken": "broken: the test fails, but not by a check",
    "": "broken: no such test",
}


@dataclass(frozen=True, slots=True)
class Off:
    """One line of the source, what stands there when the rule is switched off, and the test that must then fail."""

    rule: str
    file: str
    line: str
    becomes: str
    test: str


class Misfit(Exception):
    """The entry does not fit the source: its text must stand there exactly once."""


def entries(root: Path = ROOT) -> list[Off]:
    tables = (tomllib.loads(file.read_text("utf-8")) for file in sorted((root / FOLDER).glob("*.toml")))
    return [Off(**entry) for table in tables for entry in table.get("off", [])]


def switched_off(entry: Off, root: Path) -> str:
    """The whole source with the rule switched off. Raises Misfit."""
    file = root / entry.file
    source = file.read_text("utf-8") if file.is_file() else ""
    found = source.count(entry.line)
    if found != 1:
        raise Misfit(f"the text stands {found} times in {entry.file}, not once: {entry.line!r}")
    return source.replace(entry.line, entry.becomes)


@contextmanager
def copy_of_tree() -> Iterator[Path]:
    """All files that git knows or would take, in a folder of its own, with the same virtual environment."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="clawdbot-rules-") as name:
        copy = Path(name)
        for file in filter(lambda each: each and (ROOT / each).is_file(), names):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, copy / file)
        if not (copy / ".venv").exists():
            (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
        yield copy


def outcomes(tests: list[str], tree: Path, *more: str) -> dict[str, str]:
    """How each test ended (its worst case, "" where there is none). What SQLite skips gets its turn on PostgreSQL."""
    ended = _ended(tests, tree, {}, *more)
    skipped = [test for test, outcome in ended.items() if outcome == "skipped"]
    if skipped and (url := os.environ.get("TEST_POSTGRES_URL")):
        with ON_POSTGRESQL:
            ended |= _ended(skipped, tree, {"DATABASE_URL": url}, "-W", "ignore", "--create-db", *more)
    return ended


def _ended(tests: list[str], tree: Path, env: dict[str, str], *more: str) -> dict[str, str]:
    """With no known test pytest would run all that there are."""
    there = [test for test in tests if _is_there(test, tree)]
    if not there:
        return dict.fromkeys(tests, "")
    results = tree / ".rule-results.json"
    results.unlink(missing_ok=True)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.rules.results", *more]
    words += ["--continue-on-collection-errors", "--rule-results", str(results)]
    own = {"CLAWDBOT_DATA_DIR": str(tree / "var"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        subprocess.run(
            [*words, *there],
            cwd=tree, env={**os.environ, **own, **env}, capture_output=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return dict.fromkeys(tests, "failed")  # with a limit switched off a test may never end
    cases = json.loads(results.read_text()) if results.exists() else {}
    return {test: _worst([outcome for case, outcome in cases.items() if _is_of(case, test)]) for test in tests}


def _is_there(test: str, tree: Path) -> bool:
    """pytest runs nothing at all where one of the names that it is given is unknown."""
    name, _colons, function = test.partition("[")[0].rpartition("::")
    file = tree / name.partition("::")[0]
    return file.is_file() and f"def {function}(" in file.read_text("utf-8")


def _is_of(case: str, test: str) -> bool:
    return case == test or case.startswith(f"{test}[") or case == test.partition("::")[0]


def _worst(found: list[str]) -> str:
    return next((outcome for outcome in ("failed", "broken", "passed", "skipped") if outcome in found), "")


def verdict(entry: Off, tree: Path) -> str:
    file = tree / entry.file
    before = file.read_text("utf-8")
    file.write_text(switched_off(entry, tree), "utf-8")
    try:
        return VERDICTS[outcomes([entry.test], tree, "-x")[entry.test]]
    finally:
        file.write_text(before, "utf-8")


def _misfit(entry: Off) -> str:
    try:
        switched_off(entry, ROOT)
    except Misfit as misfit:
        return f"misfit: {misfit}"
    return ""


def prove(found: list[Off], copies: int) -> list[tuple[Off, str]]:
    with ExitStack() as stack:
        trees: queue.Queue[Path] = queue.Queue()
        for _each in range(copies):
            trees.put(stack.enter_context(copy_of_tree()))
        first = trees.get()
        untouched = outcomes(sorted({entry.test for entry in found}), first)
        trees.put(first)

        def proved(entry: Off) -> tuple[Off, str]:
            if misfit := _misfit(entry):
                return _told(entry, misfit)
            if untouched[entry.test] != "passed":
                return _told(
                    entry,
                    f"broken: its test does not pass with the rule on ({untouched[entry.test] or 'no such test'})",
                )
            tree = trees.get()
            try:
                return _told(entry, verdict(entry, tree))
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(copies) as pool:
            return list(pool.map(proved, found))


def _told(entry: Off, said: str) -> tuple[Off, str]:
    print(f"| {entry.rule} | {entry.file} | {entry.test.rpartition('::')[2]} | {said} |", flush=True)
    return entry, said


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.rules_off", description="Each rule off: its test notices.")
    parser.add_argument("--only", action="append", metavar="RULE", help="only this rule (may be given more than once)")
    parser.add_argument("--copies", type=int, default=os.cpu_count() or 1, help="how many at once")
    options = parser.parse_args(words)
    found = [entry for entry in entries() if not options.only or entry.rule in options.only]
    if not found:
        sys.exit(f"No entry of {FOLDER} is of {', '.join(options.only or ['any rule'])}.")
    print("| rule | switched off in | test | result |\n|---|---|---|---|", flush=True)
    told = prove(found, min(options.copies, len(found)))
    unnoticed = [entry for entry, said in told if said != VERDICTS["failed"]]
    print(f"\n{len(told) - len(unnoticed)} of {len(told)} switched-off lines noticed.")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
