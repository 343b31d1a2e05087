"""The bundled demo model on the engine: its words, and its speed with sixteen people at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.demo.corpus import answers
from inference.demo.evaluate import MODEL
from inference.demo.heldout import load_heldout
from inference.engines.local.engine import LocalEngine
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import load_model

USERS, EACH = 16, 12


@pytest.fixture
def engine():
    engine = LocalEngine(load_model(MODEL, device="cpu"), EngineLimits(max_running=USERS), torch_threads=1)
    assert engine.stats().path == "paged"
    yield engine
    engine.close()


def ask(text: str) -> GenRequest:
    return GenRequest(text, (ChatMessage("user", text),), SamplingParams(max_new_tokens=128))


def test_it_says_what_it_learned(engine):
    replies = {text: engine.submit(ask(text)) for text in ("help", "怎么用？", "Are you a real LLM?", "换模型")}

    assert {text: reply.result().text for text, reply in replies.items()} == {
        "help": answers()["capabilities"]["en"],
        "怎么用？": answers()["capabilities"]["zh"],
        "Are you a real LLM?": answers()["identity"]["en"],
        "换模型": answers()["connect_model"]["zh"],
    }


def at_percent(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


def answered(engine: LocalEngine, text: str) -> tuple[float, float]:
    """When the first text came and when the answer was whole, in seconds of the whole process's processor time."""
    began_s = time.process_time()
    deltas = iter(engine.submit(ask(text)))
    next(deltas)
    first_s = time.process_time() - began_s
    for _ in deltas:
        pass
    return first_s, time.process_time() - began_s


@pytest.mark.long
def test_sixteen_people_at_once_wait_little_longer_than_one_alone(engine):
    """Against one person in the same run: how fast a core is differs by machine (docs/benchmarks has the figures)."""
    questions = [question.text for question in load_heldout()][: USERS * EACH]
    alone_s = [answered(engine, text)[1] for text in questions[::4]]
    with ThreadPoolExecutor(USERS) as people:
        times = list(people.map(lambda text: answered(engine, text), questions))

    first_s, whole_s = zip(*times, strict=True)
    print(f"alone p99 {at_percent(alone_s, 99):.3f} s; at once: first text p99 {at_percent(first_s, 99):.3f}, "
          f"answer p50 {at_percent(whole_s, 50):.3f}, p99 {at_percent(whole_s, 99):.3f} s")  # fmt: skip
    assert len(whole_s) == USERS * EACH
    assert at_percent(first_s, 99) < 0.1
    assert at_percent(whole_s, 99) < USERS / 3 * at_percent(alone_s, 99)  # one after the other: 16 times
