"""Every reply ends once: whatever is cancelled, late, cut off, or breaks, and whenever."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter

import pytest

from inference.base import ChatMessage, Delta, GenRequest, SamplingParams
from inference.engines.local import loop as loop_module
from inference.engines.local.core import PagedCore
from inference.engines.local.engine import LocalEngine
from inference.engines.local.limits import EngineLimits
from inference.errors import EngineDown, InferenceError, QueueFull
from tests.inference.engines.local import tiny

LIMITS = EngineLimits(max_running=8, max_waiting=100, kv_cache_pages=40, prefill_tokens=64)
ids = (f"ends-{n}" for n in itertools.count())


def small(tokenizer, limits: EngineLimits = LIMITS) -> LocalEngine:
    engine = LocalEngine(tiny.make("llama", tokenizer, num_hidden_layers=1), limits, torch_threads=1)
    assert engine.stats().path == "paged"
    return engine


@pytest.fixture
def engine(tokenizer):
    engine = small(tokenizer)
    yield engine
    engine.close()


@pytest.fixture
def quick_recovery(monkeypatch):
    monkeypatch.setattr(loop_module, "FIRST_PAUSE_S", 0.01)


def ask(text: str = "hello", new: int = 8, deadline_s: float | None = 30, **sampling: object) -> GenRequest:
    chosen = SamplingParams(max_new_tokens=new, temperature=1.0, seed=3, **sampling)
    return GenRequest(next(ids), (ChatMessage("user", text),), chosen, deadline_s)


def break_core(engine: LocalEngine) -> None:
    """Its next step fails, and not because of a request."""

    def sweep(now: float) -> list:
        raise RuntimeError("the device is gone")

    core = engine._loop.core
    assert isinstance(core, PagedCore)
    core.scheduler.sweep = sweep


def restarted(engine: LocalEngine, times: int) -> None:
    give_up_at = time.monotonic() + 10
    while engine.stats().restarts < times or engine._loop.core is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_a_crash_fails_what_runs_and_the_next_request_is_served(engine, quick_recovery):
    healthy = engine.submit(ask()).result().text
    running = engine.submit(ask("fox " * 30, new=400))
    next(iter(running))

    break_core(engine)

    result = running.result()
    assert (result.finish, result.error) == ("error", "the engine broke: RuntimeError: the device is gone")
    assert engine.submit(ask()).result().text == healthy
    assert engine.stats().restarts == 1
    assert not engine.stats().has_given_up


def test_what_waited_during_a_crash_is_answered(tokenizer, quick_recovery):
    engine = small(tokenizer, EngineLimits(max_running=1, kv_cache_pages=40))
    alone = engine.submit(ask()).result().text
    running = engine.submit(ask("fox " * 30, new=400))
    next(iter(running))
    waiting = [engine.submit(ask()) for _ in range(3)]

    break_core(engine)

    assert running.result().finish == "error"
    assert [reply.result().text for reply in waiting] == [alone] * 3
    engine.close()


def test_three_crashes_are_too_many(engine, quick_recovery):
    for _ in range(2):
        break_core(engine)
        assert engine.submit(ask()).result().finish == "length", "what waited is begun anew"
    break_core(engine)
    assert engine.submit(ask()).result().finish == "error"

    give_up_at = time.monotonic() + 10
    while not engine.stats().has_given_up:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)
    with pytest.raises(EngineDown, match="restart the worker"):
        engine.submit(ask())


def test_steps_that_all_fail_are_a_crash(engine, quick_recovery):
    def fail(*args: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    hook = engine._loaded.model.register_forward_pre_hook(fail)
    finishes = [engine.submit(ask()).result().finish for _ in range(4)]
    hook.remove()

    assert finishes == ["error"] * 4
    restarted(engine, 1)
    assert engine.submit(ask()).result().finish in ("length", "stop")


def test_a_deadline_holds_while_others_run(engine):
    others = [engine.submit(ask("fox " * 20, new=300)) for _ in range(4)]
    began_at = time.monotonic()

    late = engine.submit(ask("fox " * 20, new=300, deadline_s=0.05))

    assert late.result().finish == "deadline"
    assert time.monotonic() - began_at < 1
    for reply in others:
        reply.cancel()


def test_a_cancelled_request_frees_its_pages_within_two_steps(engine):
    reply = engine.submit(ask("fox " * 30, new=400))
    next(iter(reply))
    reply.cancel()
    steps = engine.stats().steps

    give_up_at = time.monotonic() + 5
    while engine.stats().kv_used_tokens:
        assert time.monotonic() < give_up_at
        time.sleep(0.001)
    assert engine.stats().steps - steps <= 2


def test_a_stop_string_frees_its_pages(engine):
    text = engine.submit(ask("fox", new=60)).result().text
    stop = text[3:6]

    result = engine.submit(ask("fox", new=60, stop=(stop,))).result()

    assert (result.text, result.finish) == (text[: text.index(stop)], "stop")
    give_up_at = time.monotonic() + 5
    while engine.stats().kv_used_tokens:
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


# -- at random --------------------------------------------------------------------------------------------------------


class Caller(threading.Thread):
    """Asks again and again, and now and then hangs up, comes late or says nonsense."""

    def __init__(self, engine: LocalEngine, seed: int, count: int) -> None:
        super().__init__(daemon=True)
        self.engine, self.rng, self.count = engine, random.Random(seed), count
        self.ends: Counter[str] = Counter()
        self.start()

    def run(self) -> None:
        for _ in range(self.count):
            try:
                self.ends[self.once()] += 1
            except QueueFull:
                self.ends["refused"] += 1
                time.sleep(0.01)
            except InferenceError:
                self.ends["refused"] += 1

    def once(self) -> str:
        rng = self.rng
        deadline_s = rng.choice([None, None, 30, 0.01, 0.0])
        reply = self.engine.submit(ask("fox " * rng.randrange(1, 40), rng.randrange(1, 12), deadline_s))
        chance = rng.random()
        if chance < 0.2:
            reply.cancel()
        elif chance < 0.3:
            threading.Timer(rng.random() * 0.02, reply.cancel).start()
        deltas: list[Delta] = list(reply)
        finals = [delta.finish for delta in deltas if delta.finish]
        assert len(finals) == 1, finals
        assert deltas[-1].finish == finals[0]
        return str(finals[0])


def at_random(engine: LocalEngine, callers: int, each: int, crashes: int) -> Counter[str]:
    crowd = [Caller(engine, seed, each) for seed in range(callers)]
    for n in range(crashes):
        time.sleep(0.1)
        engine._loop._crashed_at.clear()  # so many in ten minutes would be too many
        break_core(engine)
        engine.submit(ask()).result()  # at the latest this one breaks it
        restarted(engine, n + 1)
    for caller in crowd:
        caller.join(600)
        assert not caller.is_alive()
    return sum((caller.ends for caller in crowd), Counter())


def check_ends(ends: Counter[str], total: int) -> None:
    assert sum(ends.values()) == total
    assert {"length", "cancelled", "deadline", "error"} <= set(ends)


def test_every_reply_ends_once(engine, quick_recovery):
    ends = at_random(engine, callers=6, each=25, crashes=2)

    check_ends(ends, 150)
    assert engine.stats().running == engine.stats().waiting == 0


@pytest.mark.long
def test_ten_thousand_replies_end_once(engine, quick_recovery):
    ends = at_random(engine, callers=16, each=625, crashes=20)

    check_ends(ends, 10_000)


def test_a_shutdown_ends_everything_once(tokenizer):
    engine = small(tokenizer)
    crowd = [Caller(engine, seed, 200) for seed in range(4)]
    time.sleep(0.3)

    engine.drain(0.1)
    engine.close()

    for caller in crowd:
        caller.join(10)
        assert not caller.is_alive()
    assert sum((caller.ends for caller in crowd), Counter())["shutdown"] <= 4
