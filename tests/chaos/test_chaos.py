"""The kill matrix itself: a short run shows people nothing, and with a safeguard off it shows what that one is for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import failpoints
from tests.chaos.conductor import Conductor, Options, Outcome
from tests.chaos.site import ChaosSite

SHORT = Options(
    messages=120,
    conversations=40,
    kills=1,
    minutes=0.5,
    matrix=(
        ("web", "after-store"),
        ("worker", "after-send"),
        ("beat", "before-sweep"),
        ("redis", "before-claim"),
        ("postgres", "after-send"),
    ),
)
# What is switched off: the run that finds it out, and the faults of which it must find one.
PROOFS = {
    "constraint": (Options(messages=80, conversations=20, kills=0, repeats=0.5), {"doubled"}),
    "lease": (Options(messages=120, conversations=8, kills=0, rate=40), {"doubled", "disordered", "unexplained"}),
    "intent": (
        Options(messages=160, conversations=40, kills=10, matrix=(("worker", "after-send"),)),
        {"doubled", "lost"},
    ),
    "sweeper": (Options(messages=60, conversations=60, kills=4, matrix=(("worker", "in-model"),)), {"lost"}),
}


def run(options: Options, folder: Path) -> Outcome:
    with ChaosSite(folder, options.without) as site:
        return Conductor(options, site).run()


def test_the_failpoints_know_the_product() -> None:
    failpoints.check_names()


def test_a_short_run_loses_doubles_and_disorders_nothing(folder: Path) -> None:
    outcome = run(SHORT, folder)

    assert (outcome.verdict.faults, outcome.waiting) == ({}, [])
    assert outcome.verdict.answered >= outcome.verdict.asked - len(outcome.verdict.unconfirmed)
    assert outcome.verdict.asked == SHORT.messages
    killed = Counter(kill.victim for kill in outcome.kills)
    assert killed == {"web": 1, "worker": 1, "beat": 1, "redis": 1, "postgres": 1}, f"missed: {outcome.missed}"


@pytest.mark.long
@pytest.mark.parametrize("without", PROOFS)
def test_a_short_run_without_a_safeguard_finds_the_faults(without: str, folder: Path) -> None:
    options, expected = PROOFS[without]

    outcome = run(replace(options, without=without, patience_s=30), folder)

    assert expected & outcome.verdict.faults.keys(), outcome
