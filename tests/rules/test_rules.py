"""Every rule has its test, and the table of docs/security.md says which (scripts/rules.py writes it)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import rules
from scripts.rules import Proof

FILE = """
import pytest
pytestmark = pytest.mark.rule("N1")

@pytest.mark.rule("E1", "E2")
async def test_of_two():
    pass

@pytest.mark.long
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.rule("E3"))])
def test_with_a_marked_case(n):
    pass

def not_a_test():
    pass
"""


@pytest.fixture(scope="module")
def found() -> list[Proof]:
    return rules.proofs()


def test_every_rule_has_a_test(found: list[Proof]) -> None:
    known, tested = rules.texts(), rules.by_rule(found)
    later = [rule for rule, what in known["with_operations"].items() if what == "all of it"]

    assert [rule for rule in known["rules"] if rule not in {*tested, *later, *known["missing"]["tests"]}] == []


def test_tests_name_rules_that_are_there(found: list[Proof]) -> None:
    assert sorted(set(rules.by_rule(found)) - set(rules.texts()["rules"])) == []


def test_the_table_of_the_document_is_up_to_date(found: list[Proof]) -> None:
    there = rules.written()

    assert there == rules.table(found, rules.results_of(there)), "run `make rules`"


def test_no_result_in_the_table_is_a_failure() -> None:
    results = rules.results_of(rules.written())

    assert sorted(results) == sorted(rules.texts()["rules"])
    assert {rule: result for rule, result in results.items() if "failed" in result} == {}


def test_marks_are_found_without_running_a_test(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(FILE)

    assert rules.proofs(tmp_path) == [
        Proof("tests/test_some.py::test_of_two", ("N1", "E1", "E2")),
        Proof("tests/test_some.py::test_with_a_marked_case", ("N1", "E3"), is_long=True),
    ]


def test_a_failed_test_is_named_and_an_untried_one_is_counted() -> None:
    tests = [Proof(f"tests/test_a.py::test_{name}", ("E1",)) for name in ("one", "two", "three")]
    one, two, three = (proof.test for proof in tests)

    assert rules.verdict(tests, {one: "passed", two: "failed", three: "broken"}) == "**failed**: test_two, test_three"
    assert rules.verdict(tests, {one: "passed", two: "passed", three: "skipped"}) == "passed: 2, not run: 1"
    assert rules.verdict(tests, {one: "passed", two: "passed", three: "passed"}) == "passed: 3"


def test_the_table_goes_between_its_marks_and_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "security.md"
    document.write_text(f"before\n{rules.BEGIN}\nold\n{rules.END}\nafter\n")
    table = rules.table([Proof("tests/test_a.py::test_one", ("E1",))], {"E1": "passed: 1"})

    rules.write(table, document)

    assert document.read_text() == f"before\n{rules.BEGIN}\n{table}\n{rules.END}\nafter\n"
    assert rules.written(document) == table
    assert rules.results_of(table)["E1"] == "passed: 1"
    assert re.search(r"\| E1 \| .* \| \[test_a\]\(\.\./tests/test_a\.py\): `test_one` \| passed: 1 \|", table)
