"""The bundled demo model on the engine: its words, and its speed with sixteen people at once."""

from __future__ import annotations

import threading
import time

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


@pytest.mark.long
def test_sixteen_people_at_once_on_one_core(engine):
    """In processor time of the whole process: what one idle core needs, on a machine that may have none."""
    first_s: list[float] = []
    whole_s: list[float] = []
    questions = [question.text for question in load_heldout()][: USERS * EACH]

    def person(mine: list[str]) -> None:
        for text in mine:
            began_s = time.process_time()
            deltas = iter(engine.submit(ask(text)))
            next(deltas)
            first_s.append(time.process_time() - began_s)
            for _ in deltas:
                pass
            whole_s.append(time.process_time() - began_s)

    people = [threading.Thread(target=person, args=(questions[n::USERS],)) for n in range(USERS)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join(120)

    print(f"first text p99 {at_percent(first_s, 99):.3f} s; answer p50 {at_percent(whole_s, 50):.3f}, "
          f"p99 {at_percent(whole_s, 99):.3f} s")  # fmt: skip
    assert len(whole_s) == USERS * EACH
    assert at_percent(first_s, 99) < 0.1
    assert at_percent(whole_s, 99) < 0.3
