"""The benchmark of the local engine: one trace for all, honest ratios, and a report that admits what it has not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, pstdev

import pytest
import torch

from bench.serving import goals, traces
from bench.serving.answers import Answer, Run, Stopwatch, run_of
from bench.serving.contestants import Ours, Static
from bench.serving.parts import Results
from bench.serving.plans import plan_for
from bench.serving.report import Report
from bench.serving.shapes import Shape
from inference.engines.local.limits import EngineLimits

SMALL = Shape(
    "small",
    "qwen3",
    {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
    },
)


def run(contestant: str, rate: float) -> Run:
    answers = [Answer(0.0, 2.0, [1.0, 2.0], [5, 6])]
    return replace(run_of(contestant, "chat", answers, Stopwatch()), busy_tokens_per_cpu_s=rate, busy_tokens_per_s=rate)


def rounds(*pairs: tuple[float, float]) -> list[list[Run]]:
    return [[run("ours", ours), run("plain generate", theirs)] for ours, theirs in pairs]


def test_a_trace_is_the_same_each_time():
    assert traces.chat(50, 2000, seed=3) == traces.chat(50, 2000, seed=3) != traces.chat(50, 2000, seed=4)


def test_a_part_of_a_trace_is_like_the_whole_and_in_its_order():
    asks = traces.chat(400, 2000, seed=3)

    part = traces.every(asks, 8)

    assert len(part) == 50
    assert [asks.index(ask) for ask in part] == sorted(asks.index(ask) for ask in part)
    assert mean(a.new_tokens for a in part) == pytest.approx(mean(a.new_tokens for a in asks), rel=0.25)


@pytest.mark.parametrize("variation", [1.0, 2.0])
def test_an_open_loop_asks_at_its_rate(variation):
    asks = traces.arriving(traces.uniform(2000, 4, 4, 50, 1), per_s=8.0, variation=variation, seed=5)

    pauses = [after.due_s - before.due_s for before, after in pairwise(asks)]
    assert len(asks) / asks[-1].due_s == pytest.approx(8.0, rel=0.15)
    assert pstdev(pauses) / mean(pauses) == pytest.approx(variation, rel=0.2)


def test_no_ratio_where_our_own_runs_are_apart():
    assert str(goals.ratio(rounds((100, 10), (105, 10)), "plain generate", goals.CPU_RATE)) == "10.2x"
    assert "our own runs differ by 20%" in str(goals.ratio(rounds((100, 10), (120, 10)), "plain generate", goals.RATE))
    assert "too few" in str(goals.ratio(rounds((100, 10)), "plain generate", goals.RATE))
    assert str(goals.ratio([], "plain generate", goals.RATE)) == "not measured"


def test_a_goal_that_was_not_measured_is_not_reached():
    words = {(v.goal, v.word) for v in goals.verdicts(Results(rounds=rounds((90, 10), (90, 10))), is_gpu=False)}

    assert ("I3", "reached") in words  # nine times plain
    assert ("I3", "not measured") in words  # the others did not run
    assert {goal for goal, _ in words} == {f"I{at}" for at in range(1, 13)}
    assert {word for goal, word in words if goal in {"I5", "I6", "I11", "I12"}} == {"not measured"}


def test_the_report_admits_what_it_has_not(tmp_path: Path):
    results = Results(rounds=rounds((90, 10), (90, 10)), left_out=["open loop, gamma"])

    Report(plan_for("cpu", quick=True, minutes=None), "run", "today", {"CPU": "x"}, results).write(tmp_path)

    told = json.loads((tmp_path / "inference-cpu.json").read_text())
    assert told["results"]["demo"] is None
    page = (tmp_path / "inference-cpu.md").read_text()
    assert "- open loop, gamma" in page
    assert "9.0x" in page
    assert "ours" in (tmp_path / "inference-cpu.svg").read_text()


def test_contestants_give_the_same_tokens():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    asks = [replace(ask, new_tokens=min(ask.new_tokens, 12)) for ask in traces.chat(6, 300, seed=2)]
    ours = Ours(SMALL, "cpu", EngineLimits(max_running=4, kv_cache_pages=400))

    mine, my_answers = ours.serve(asks, 3, "three users")
    _, due = ours.serve(traces.arriving(asks, 50.0, 1.0, seed=1), None, "an open loop")
    _, theirs = Static(SMALL, "cpu", 2).serve(asks, 3, "three users")
    torch.set_num_threads(before)

    assert [a.tokens for a in my_answers] == [a.tokens for a in theirs] == [a.tokens for a in due]
    assert [len(a.tokens) for a in theirs] == [ask.new_tokens for ask in asks]
    assert mine.busy_tokens_per_cpu_s > 0
    assert not math.isnan(mine.host_ms)
    assert all(a.asked_s <= a.token_s[0] <= a.done_s for a in my_answers + theirs + due)
