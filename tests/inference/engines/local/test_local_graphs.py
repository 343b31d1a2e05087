"""Recorded steps give the tokens of launched ones. There are no graphs on a CPU: the stand-in repeats the work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.engines.local.adapter import Adapter
from inference.engines.local.graphs import GraphRunner, is_recordable, sizes_for
from inference.engines.local.sequence import Sampling, Sequence
from tests.inference.engines.local import tiny
from tests.inference.engines.local.test_local_tokens import TIGHT, bench, check, mixed, prompts

RECORDED = replace(TIGHT, graphs=True)


DENSE = [name for name in tiny.ARCHITECTURES if name != "qwen3-moe"]


@pytest.mark.parametrize(("name", "look_ahead"), [(name, at % 2 == 0) for at, name in enumerate(DENSE)])
def test_recorded_steps_give_the_tokens_of_generate(name, look_ahead, tokenizer):
    running = bench(name, tokenizer, replace(RECORDED, look_ahead=look_ahead))

    left, _ = mixed(running, 10, seed=5)

    check(running, left)
    runner = running.core.runner
    assert isinstance(runner, GraphRunner)
    assert 0 < runner.rows < runner.padded_rows, "no step was replayed, or none was filled up"


def drawn(tokenizer, **changes: object) -> list[list[int]]:
    running = bench("qwen3", tokenizer, replace(TIGHT, kv_cache_pages=200, **changes))
    added: list[Sequence] = []
    for at, prompt in enumerate(prompts(6, seed=9)):
        sampling = Sampling(temperature=0.0 if at == 2 else 0.9, top_p=0.8, top_k=0 if at % 2 else 7, seed=at - 3)
        added.append(running.add(f"r{at}", prompt, 24, sampling=sampling))
    running.run()
    return [running.written(sequence) for sequence in added]


def test_a_recorded_step_draws_what_a_launched_one_draws(tokenizer):
    wanted = drawn(tokenizer)

    assert drawn(tokenizer, graphs=True) == wanted
    assert drawn(tokenizer, graphs=True, look_ahead=True) == wanted
    assert len({tuple(tokens) for tokens in wanted}) == 6


def test_a_model_that_looks_at_its_numbers_is_not_recorded(tokenizer, caplog):
    assert is_recordable(Adapter(tiny.make("qwen3", tokenizer).model))
    running = bench("qwen3-moe", tokenizer, RECORDED)

    assert not isinstance(running.core.runner, GraphRunner)
    assert "its steps are not recorded" in caplog.text
    left, _ = mixed(running, 4, seed=5)
    check(running, left)


def test_sizes_end_with_what_may_run_at_once():
    assert sizes_for(1) == [1]
    assert sizes_for(20) == [1, 2, 4, 8, 16, 20]
    assert sizes_for(300)[-2:] == [256, 300]
