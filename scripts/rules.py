"""The table of security rules in docs/security.md: what each says, the tests that prove it, and how they ended.

    python -m scripts.rules                 runs the tests marked with a rule and writes the table (`make rules`)
    python -m scripts.rules --long          the tests of minutes too
    python -m scripts.rules --only S2       the tests of one rule, the other results stay
    python -m scripts.rules --no-run        tests and texts anew, the old results stay (after a change of names)

The texts are in tests/rules/rules.toml. Which test proves what is read from the marks in the tests' source, without
importing them; tests/rules/test_rules.py fails when the table says something else.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ROOT / "tests" / "rules" / "rules.toml"
DOCUMENT = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- rules: written by `make rules` -->", "<!-- end of rules -->"
NOT_RUN = "not run yet"
WORST_FIRST = ("broken", "failed", "passed", "skipped")


@dataclass(frozen=True, slots=True)
class Proof:
    """One test function: ``tests/security/test_gate.py::test_x``, the rules it proves, and whether it takes minutes."""

    test: str
    rules: tuple[str, ...]
    is_long: bool = False

    @property
    def file(self) -> str:
        return self.test.partition("::")[0]


def texts() -> dict[str, Any]:
    return tomllib.loads(TEXTS.read_text("utf-8"))


# -- which test proves what --


def proofs(root: Path = ROOT) -> list[Proof]:
    files = sorted((root / "tests").rglob("test_*.py"))
    return [proof for file in files for proof in _proofs_of(file.relative_to(root).as_posix(), file.read_text("utf-8"))]


def _proofs_of(name: str, source: str) -> Iterator[Proof]:
    if "mark.rule(" not in source:
        return
    tree = ast.parse(source)
    of_file = [node.value for node in tree.body if isinstance(node, ast.Assign) and _names(node) == ["pytestmark"]]
    for function in _functions(tree.body):
        marks = [*of_file, *function.decorator_list]
        if rules := list(dict.fromkeys(rule for mark in marks for rule in _rules(mark))):
            yield Proof(f"{name}::{function.name}", tuple(rules), any(_is_long(mark) for mark in marks))


def _functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _rules(mark: ast.expr) -> Iterator[str]:
    """Also inside ``pytest.param(…, marks=pytest.mark.rule("E1"))``."""
    for node in ast.walk(mark):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rule":
            yield from (
                word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)
            )


def _is_long(mark: ast.expr) -> bool:
    """The whole test: a long case of a test with short ones does not count."""
    marks = mark.elts if isinstance(mark, ast.List | ast.Tuple) else [mark]
    return any(isinstance(one, ast.Attribute) and one.attr == "long" for one in marks)


def by_rule(found: list[Proof]) -> dict[str, list[Proof]]:
    tests: dict[str, list[Proof]] = defaultdict(list)
    for proof in found:
        for rule in proof.rules:
            tests[rule].append(proof)
    return tests


# -- how they ended --


def run(found: list[Proof], with_long: bool) -> dict[str, str]:
    """How each test ended. What SQLite skips gets its turn on PostgreSQL; a browser needs a run of its own."""
    short = [proof.test for proof in found if with_long or not proof.is_long]
    browser = [test for test in short if test.startswith("tests/browser/")]
    ended = _ended([test for test in short if test not in browser], with_long) | _ended(browser, with_long)
    skipped = [test for test, outcome in ended.items() if outcome == "skipped"]
    if skipped and (url := os.environ.get("TEST_POSTGRES_URL")):
        ended |= _ended(skipped, with_long, {"DATABASE_URL": url}, "-W", "ignore")
    return ended


def _ended(tests: list[str], with_long: bool, env: dict[str, str] | None = None, *more: str) -> dict[str, str]:
    if not tests:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.rules.results"]
        words += [
            "--rule-results",
            str(results),
            "-n",
            "2",
            "--dist",
            "loadfile",
            "-m",
            "rule" if with_long else "rule and not long",
        ]
        subprocess.run([*words, *more, *tests], cwd=ROOT, env={**os.environ, **(env or {})}, check=False)
        cases: dict[str, str] = json.loads(results.read_text()) if results.exists() else {}
    ended: dict[str, str] = {}
    for case, outcome in cases.items():
        test = case.partition("[")[0]
        ended[test] = min(outcome, ended.get(test, outcome), key=WORST_FIRST.index)
    return ended


def verdict(tests: list[Proof], ended: dict[str, str]) -> str:
    if failed := [proof.test.rpartition("::")[2] for proof in tests if ended.get(proof.test) in ("failed", "broken")]:
        return "**failed**: " + ", ".join(failed)
    passed = sum(ended.get(proof.test) == "passed" for proof in tests)
    rest = len(tests) - passed
    return (
        (f"passed: {passed}" if passed else "")
        + (", " if passed and rest else "")
        + (f"not run: {rest}" if rest else "")
    )


# -- the table --


def table(found: list[Proof], results: dict[str, str]) -> str:
    known, tests = texts(), by_rule(found)
    head = ["| rule | says | tests | result |", "|---|---|---|---|"]
    return "\n".join([*head, *(_row(rule, known, tests.get(rule, []), results) for rule in known["rules"])])


def _row(rule: str, known: dict[str, Any], tests: list[Proof], results: dict[str, str]) -> str:
    says = known["rules"][rule]
    later = known["with_operations"].get(rule)
    result = results.get(rule, NOT_RUN) if tests else "no test yet" if not later else "-"
    cell = "; ".join([*_by_file(tests), *([f"*with operations*: {later}"] if later else [])])
    return f"| {rule} | {says} | {cell} | {result} |"


def _by_file(tests: list[Proof]) -> list[str]:
    names: dict[str, list[str]] = defaultdict(list)
    for proof in tests:
        names[proof.file].append(f"`{proof.test.rpartition('::')[2]}`" + (" (long)" if proof.is_long else ""))
    return [f"[{Path(file).stem}](../{file}): {', '.join(found)}" for file, found in names.items()]


def written(document: Path = DOCUMENT) -> str:
    return document.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def results_of(text: str) -> dict[str, str]:
    """The last column of a written table, by rule."""
    rows = re.findall(r"^\| ([A-Z]\d+) \|.*\| ([^|]*) \|$", text, re.MULTILINE)
    return dict(rows)


def write(text: str, document: Path = DOCUMENT) -> None:
    before, _begin, rest = document.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.rules", description="The table of security rules.")
    parser.add_argument("--long", action="store_true", help="run the tests of minutes too")
    parser.add_argument("--only", metavar="RULE", help="run the tests of one rule, keep the other results")
    parser.add_argument("--no-run", action="store_true", help="keep the old results")
    options = parser.parse_args(words)
    found = proofs()
    results = results_of(written()) if options.only or options.no_run else {}
    if not options.no_run:
        wanted = [proof for proof in found if options.only in (None, *proof.rules)]
        ended = run(wanted, options.long)
        chosen = {rule: tests for rule, tests in by_rule(found).items() if options.only in (None, rule)}
        results |= {rule: verdict(tests, ended) for rule, tests in chosen.items()}
    write(table(found, results))
    failed = [rule for rule, result in results.items() if "failed" in result]
    print(f"{len(found)} tests of {len(by_rule(found))} rules" + (f", FAILED: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
