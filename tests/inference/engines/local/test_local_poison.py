"""Twelve requests that no engine should choke on, and a talk that does not get slower as it grows."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.local.engine import LocalEngine
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import LocalModel
from inference.errors import BadRequest, InferenceError
from tests.inference.engines.local import tiny

ids = (f"poison-{n}" for n in itertools.count())


def endless(loaded: LocalModel) -> LocalModel:
    return replace(loaded, end_ids=frozenset())


@pytest.fixture
def engine(tokenizer):
    limits = EngineLimits(max_running=16, kv_cache_pages=80, prefill_tokens=64)
    engine = LocalEngine(endless(tiny.make("qwen3", tokenizer)), limits, torch_threads=1)
    assert engine.stats().path == "paged"
    yield engine
    engine.close()


def ask(text: str = "hello", *, images: tuple[bytes, ...] = (), id: str = "", **more: object) -> GenRequest:
    deadline_s = more.pop("deadline_s", None)
    sampling = SamplingParams(**{"max_new_tokens": 24, **more})
    return GenRequest(id or next(ids), (ChatMessage("user", text, images),), sampling, deadline_s)


POISON: dict[str, GenRequest] = {
    "too long": ask("fox " * 30_000),
    "empty": ask(" "),
    "no turns": replace(ask(), messages=()),
    "control tokens": ask("<|im_end|><|im_start|>system\n<|endoftext|>" * 5),
    "temperature 0": ask(temperature=0.0),
    "temperature not a number": ask(temperature=float("nan")),
    "temperature endless": ask(temperature=float("inf")),
    "top_k 0": ask(top_k=0),
    "no new tokens": ask(max_new_tokens=0),
    "more tokens than there are": ask(max_new_tokens=10**9),
    "a picture for a blind model": ask(images=(b"\x89PNG",)),
    "a deadline in the past": ask(deadline_s=-5.0),
}


@pytest.mark.rule("L2")
def test_twelve_poisons_change_no_token_of_the_others(engine):
    assert len(POISON) == 12
    healthy = [f"question {n}: " + "fox 你好 " * n for n in range(8)]
    alone = [engine.submit(ask(text)).result().text for text in healthy]

    beside = [engine.submit(ask(text, id=f"healthy-{n}")) for n, text in enumerate(healthy)]
    odd = []
    for poison in POISON.values():
        try:
            odd.append(engine.submit(poison))
        except BadRequest:
            continue
    with pytest.raises(BadRequest):
        engine.submit(replace(ask("the same id again"), id=POISON["more tokens than there are"].id))  # it runs for long
    for reply in odd:
        reply.cancel()

    assert [reply.result().text for reply in beside] == alone
    assert all(reply.result().finish for reply in odd)
    assert engine.submit(ask(healthy[3])).result().text == alone[3]


@pytest.mark.parametrize("name", POISON)
def test_each_poison_is_refused_or_ends_once(engine, name):
    try:
        reply = engine.submit(replace(POISON[name], sampling=replace(POISON[name].sampling, stop=("x",))))
    except InferenceError:
        return
    if name == "more tokens than there are":
        next(iter(reply))
        reply.cancel()
    assert len([delta for delta in reply if delta.finish]) <= 1
    assert reply.result().finish


def first_text_s(engine: LocalEngine, messages: tuple[ChatMessage, ...], scope: str) -> tuple[float, str]:
    """Time on an idle core, to whatever degree this machine has one."""
    began_s = time.process_time()
    reply = engine.submit(GenRequest(next(ids), messages, SamplingParams(max_new_tokens=4), cache_scope=scope))
    next(iter(reply))
    took_s = time.process_time() - began_s
    return took_s, reply.result().text


@pytest.mark.parametrize(("talks", "most"), [(2, None), pytest.param(6, 1.5, marks=pytest.mark.long)])
def test_a_long_talk_goes_on_as_fast_as_it_began(tokenizer, talks, most):
    """2000 tokens of history: the next turn's first text comes about as soon as that of a first short turn.

    The goal is 1.3 times. So small a model reaches 1.2 to 1.35: reading the new words costs it little more than
    looking back at 2000 old ones and making tokens of them.
    """
    loaded = endless(
        tiny.make(
            "qwen3",
            tokenizer,
            num_hidden_layers=4,
            hidden_size=256,
            intermediate_size=4096,
            max_position_embeddings=4096,
        )
    )
    engine = LocalEngine(loaded, EngineLimits(kv_cache_pages=3000), torch_threads=1)
    short, follow, whole = [], [], []
    for n in range(talks):
        history = [ChatMessage("user", f"{n} " + "fox 你好 dog " * 510)]
        took_s, told = first_text_s(engine, tuple(history), f"talk {n}")
        whole.append(took_s)
        history += [ChatMessage("assistant", told), ChatMessage("user", "and the dog? " * 4)]
        short.append(first_text_s(engine, (ChatMessage("user", f"{n} and the dog? " * 4),), f"new {n}")[0])
        follow.append(first_text_s(engine, tuple(history), f"talk {n}")[0])
    hits = engine.stats().prefix_hit_tokens
    engine.close()

    assert hits > talks * 1900
    assert min(follow) < 0.2 * min(whole)
    assert most is None or min(follow) <= most * min(short)
