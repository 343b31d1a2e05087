"""The plan of a run, its report, and that a refactoring of the product is noticed."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.chaos import failpoints, report
from tests.chaos.conductor import Kill, Options, Outcome, plan
from tests.chaos.judge import Verdict
from tests.chaos.matrix import MATRIX


def test_each_victim_is_killed_as_often_as_asked_over_all_of_its_stages() -> None:
    kills = plan(Options(kills=60), random.Random(1))

    assert Counter(victim for victim, _ in kills) == dict.fromkeys(MATRIX, 60)
    assert Counter(stage for victim, stage in kills if victim == "postgres") == dict.fromkeys(MATRIX["postgres"], 6)
    assert [victim for victim, _ in kills[:5]] == list(MATRIX)


@pytest.mark.parametrize(
    "names", [{"bots.leases:gone": ()}, {"bots.intake:store": ("drafts", "more")}, {"bots.gone:store": ()}]
)
def test_a_name_that_the_product_lost_stops_the_tool(
    names: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "NAMES", names)

    with pytest.raises((AttributeError, TypeError, ModuleNotFoundError)):
        failpoints.check_names()


def outcome(**values: object) -> Outcome:
    given: dict[str, object] = {
        "verdict": Verdict(asked=10, answered=9, lost=["c1m2"]),
        "kills": [Kill("web", "after-store", "om_c1m2", 3.0)] * 2,
        "missed": [("beat", "random")],
        "waiting": [],
        "statuses": {"delivered": 9},
        "interrupted": 0,
        "unasked": [],
        "repeated": 1,
        "repeated_after_restart": 0,
        "sending_s": 5.0,
        "settling_s": 1.0,
        "evidence": {"c1m2": ["never shown"]},
    }
    return Outcome(**(given | values))


def test_the_report_names_what_was_lost_and_counts_the_kills_by_stage() -> None:
    lines = report.markdown(Options(), outcome(), ["python", "-m", "tests.chaos"]).splitlines()

    assert "| lost | 1 | c1m2 |" in lines
    assert "| after-store | 2 |  |  | 0 | 0 |" in lines
    assert "Planned kills for which no message came in time: 1 beat random." in lines


def test_a_run_is_clean_only_without_faults_and_with_nothing_waiting() -> None:
    clean = Verdict(asked=1, answered=1)

    assert [
        outcome().is_clean,
        outcome(verdict=clean).is_clean,
        outcome(verdict=clean, waiting=["c1m1"]).is_clean,
    ] == [False, True, False]
