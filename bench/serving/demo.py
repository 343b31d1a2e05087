"""The bundled demo model through the whole engine, text and threads included, on one core: 16 people at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from bench.serving.answers import Answer, Run, Stopwatch, run_of
from bench.serving.shapes import DEMO
from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.local.engine import LocalEngine
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import load_model

USERS = 16
_QUESTIONS_EACH = 8
_QUESTIONS = (
    "你好",
    "What can you do?",
    "怎么添加一个机器人？",
    "How do I connect Feishu?",
    "如何查看审计日志？",
    "Where do I add a language model?",
    "谢谢",
    "How do I reset a password?",
)


def measure() -> Run:
    """A token here is a piece of text that a reader saw."""
    with _one_core(), closing(LocalEngine(load_model(DEMO, device="cpu"), EngineLimits(), torch_threads=1)) as engine:
        for question in _QUESTIONS:
            _answer(engine, question, "warm-up", Stopwatch())
        answers: list[Answer] = []
        together = threading.Barrier(USERS)
        watch = Stopwatch()

        def person(number: int) -> list[Answer]:
            together.wait()
            return [
                _answer(engine, _QUESTIONS[(number + at) % len(_QUESTIONS)], f"{number}-{at}", watch)
                for at in range(_QUESTIONS_EACH)
            ]

        with ThreadPoolExecutor(USERS) as people:
            for found in people.map(person, range(USERS)):
                answers += found
        watch.note_last_question()
        return run_of("ours, whole engine", f"demo model, {USERS} users, one core", answers, watch)


def _answer(engine: LocalEngine, question: str, name: str, watch: Stopwatch) -> Answer:
    request = GenRequest(name, (ChatMessage("user", question),), SamplingParams(temperature=0.0), cache_scope=name)
    answer = Answer(watch.now_s)
    for delta in engine.submit(request):
        now = watch.now_s
        if delta.text:
            answer.token_s.append(now)
            answer.tokens.append(len(delta.text))
        if delta.finish:
            if delta.finish == "error":
                raise RuntimeError(delta.error)
            answer.done_s = now
    return answer


@contextmanager
def _one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
