"""The way back: a model that we cannot run paged still answers, one request at a time, and says so."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import pytest
import torch
from transformers import GptOssConfig, GptOssForCausalLM

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.local.engine import LocalEngine
from inference.engines.local.model import ready
from tests.inference.engines.local import tiny

ids = (f"plain-{n}" for n in itertools.count())


@pytest.fixture
def engine(tokenizer, caplog):
    torch.manual_seed(1)
    config = GptOssConfig(**{**tiny.SHAPE, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 16})
    loaded = replace(ready(GptOssForCausalLM(config).float(), tokenizer), end_ids=frozenset())
    with caplog.at_level(logging.WARNING):
        engine = LocalEngine(loaded, torch_threads=1)
    assert [r.reason for r in caplog.records if "one request at a time" in r.message] == ["its attention has s_aux"]
    yield engine
    engine.close()


def ask(text: str = "hi", new: int = 10, deadline_s: float | None = None, **sampling: object) -> GenRequest:
    chosen = SamplingParams(max_new_tokens=new, **sampling)
    return GenRequest(next(ids), (ChatMessage("user", text),), chosen, deadline_s)


def test_it_says_how_it_runs(engine):
    assert (engine.stats().path, engine.stats().path_reason) == ("generate", "its attention has s_aux")


def test_it_answers_as_generate_does(engine):
    loaded = engine._loaded
    rendered = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt"
    )
    out = loaded.model.generate(**rendered, max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0)
    wanted = loaded.tokenizer.decode(out[0, rendered["input_ids"].shape[1] :], skip_special_tokens=True)

    result = engine.submit(ask()).result()

    assert result.text == wanted.rstrip("\ufffd")
    assert (result.finish, result.usage.completion_tokens) == ("length", 10)


def test_a_seed_repeats(engine):
    texts = [engine.submit(ask(temperature=1.0, seed=seed)).result().text for seed in (1, 1, 2)]

    assert texts[0] == texts[1] != texts[2]


def test_cancel_deadline_and_close_end_it(engine):
    running = engine.submit(ask(new=1500))
    next(iter(running))
    late, waiting = engine.submit(ask(deadline_s=0.05)), engine.submit(ask(new=2))
    assert (engine.stats().running, engine.stats().waiting) == (1, 2)

    assert late.result().finish == "deadline"
    running.cancel()

    assert running.result().finish == "cancelled"
    assert waiting.result().finish == "length"
    last = engine.submit(ask(new=1500))
    next(iter(last))
    engine.close()
    assert last.result().finish == "shutdown"


def test_a_failure_harms_one_request(engine):
    failing = iter([True])

    def fail(*args: object) -> None:
        if next(failing, False):
            raise RuntimeError("CUDA out of memory")

    hook = engine._loaded.model.register_forward_pre_hook(fail)
    first, second = engine.submit(ask()), engine.submit(ask())

    assert (first.result().finish, first.result().error) == (
        "error",
        "the model failed: RuntimeError: CUDA out of memory",
    )
    assert second.result().finish == "length"
    hook.remove()
