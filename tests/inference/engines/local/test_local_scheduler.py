"""Who gets the next step, and whose pages: no model needed."""

from __future__ import annotations

import random

import pytest

from inference.engines.local.limits import EngineLimits
from inference.engines.local.pages import PagePool
from inference.engines.local.scheduler import Scheduler
from inference.engines.local.sequence import Sequence
from inference.engines.local.vision import Picture


class Bench:
    """A scheduler whose model always says 7."""

    def __init__(self, pages: int = 100, **limits: object) -> None:
        self.pool = PagePool(pages)
        self.scheduler = Scheduler(self.pool, EngineLimits(**{"max_running": 4, "prefill_tokens": 64, **limits}))
        self.now = 0.0
        self.finished: list[str] = []

    def add(self, name: str, prompt: int | list[int], new: int = 10, **more: object) -> Sequence:
        tokens = list(range(100, 100 + prompt)) if isinstance(prompt, int) else list(prompt)
        sequence = Sequence(name, tokens, new, arrived_at=self.now, **{"scope": name.encode(), **more})
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[tuple[str, int]]:
        """Which sequences got how many tokens of it."""
        self.now += 0.01
        self.finished += [event.sequence.id for event in self.scheduler.sweep(self.now)]
        plan = self.scheduler.plan(self.now)
        sampled = [row.sequence for row in plan if row.samples]
        self.scheduler.advance(plan)
        self.scheduler.share(plan)
        events = self.scheduler.absorb(sampled, [7] * len(sampled))
        self.finished += [event.sequence.id for event in events if event.finish]
        return [(row.sequence.id, row.count) for row in plan]

    def run(self) -> list[str]:
        for _ in range(10_000):
            if not (self.scheduler.running or self.scheduler.waiting):
                return self.finished
            self.step()
        raise AssertionError("it does not end")


def test_a_long_prompt_comes_in_chunks_while_others_go_on():
    bench = Bench()
    bench.add("short", 5)
    assert bench.step() == [("short", 5)]
    bench.add("long", 150)

    assert [bench.step() for _ in range(4)] == [
        [("short", 1), ("long", 64)],
        [("short", 1), ("long", 64)],
        [("short", 1), ("long", 22)],
        [("short", 1), ("long", 1)],
    ]


def test_a_short_prompt_passes_a_long_one():
    bench = Bench()
    bench.add("long", 150)
    bench.step()
    bench.add("short", 5)

    assert bench.step() == [("short", 5), ("long", 59)]


def test_nothing_passes_a_prompt_that_waited_too_long():
    bench = Bench(jump_ahead_s=1.0)
    bench.add("long", 150)
    bench.now += 2
    bench.add("short", 5)

    assert [bench.step() for _ in range(3)] == [[("long", 64)], [("long", 64)], [("long", 22), ("short", 5)]]


def test_short_ones_without_end_do_not_starve_a_long_one():
    bench = Bench(jump_ahead_s=0.5)
    bench.add("long", 600, new=1)
    for n in range(400):
        bench.add(f"short {n}", 60, new=1)
        bench.step()

    assert "long" in bench.finished


def test_the_higher_priority_goes_first():
    bench = Bench(max_running=1)
    bench.add("low", 5, new=1)
    bench.add("high", 50, new=1, priority=1)

    assert bench.run() == ["high", "low"]


def test_no_more_run_than_may():
    bench = Bench(max_running=2)
    for name in "abc":
        bench.add(name, 5, new=3)

    assert [len(bench.step()) for _ in range(3)] == [2, 2, 2]
    assert bench.step() == [("c", 5)]


def test_the_youngest_gives_way_and_comes_back():
    bench = Bench(pages=4)
    old, young = bench.add("old", 30, new=20), bench.add("young", 30, new=20)
    bench.now += 0.001
    young.arrived_at = bench.now

    bench.run()

    assert bench.finished == ["old", "young"]
    assert bench.scheduler.preemptions == 1
    assert (len(old.tokens), len(young.tokens)) == (50, 50)
    assert bench.pool.used == 0


def test_one_that_needs_all_the_memory_gets_it():
    bench = Bench(pages=4)
    bench.add("all", 40, new=24)
    bench.add("other", 40, new=24)

    assert sorted(bench.run()) == ["all", "other"]


@pytest.mark.parametrize("seed", range(5))
def test_pages_are_never_lost_nor_given_twice(seed):
    rng = random.Random(seed)
    bench = Bench(pages=12)
    alive: list[Sequence] = []
    for n in range(300):
        if rng.random() < 0.3:
            prompt = [5] * 20 + [rng.randrange(9) for _ in range(rng.randrange(1, 90))]
            alive.append(bench.add(f"{n}", prompt, new=rng.randrange(1, 60), scope=b"one"))
        if alive and rng.random() < 0.1:
            rng.choice(alive).is_over = True
        bench.step()
        held = {page for sequence in bench.scheduler.running for page in sequence.pages}
        assert len(held) == bench.pool.used
        for sequence in bench.scheduler.running:
            assert len(set(sequence.pages)) == len(sequence.pages) >= -(-sequence.computed // 16)
    bench.run()

    assert bench.pool.available == 12
    assert bench.scheduler.preemptions > 0


def test_what_nobody_wants_any_more_frees_its_pages_at_the_next_step():
    bench = Bench()
    sequence = bench.add("a", 40)
    bench.step()
    assert bench.pool.used == 3

    sequence.is_over = True
    bench.step()

    assert bench.pool.used == 0


def test_a_deadline_ends_what_runs_and_what_waits():
    bench = Bench(max_running=1)
    bench.add("runs", 5, new=1000, ends_at=0.05)
    bench.add("waits", 5, ends_at=0.05)

    assert sorted(bench.run()) == ["runs", "waits"]
    assert bench.now < 0.1


def picture_at(end: int, tokens: int) -> Picture:
    return Picture({}, None, 0, end, list(range(tokens)))  # type: ignore[arg-type]


def test_a_picture_does_not_wait_for_answers_to_end_nor_stop_them():
    bench = Bench()
    bench.add("talk", 5, new=1000)
    bench.step()
    for name in ("one", "two"):
        bench.add(name, 70, picture=picture_at(60, 70))

    assert [bench.step() for _ in range(4)] == [
        [("one", 70)],
        [("talk", 1), ("one", 1)],
        [("two", 70)],
        [("talk", 1), ("one", 1), ("two", 1)],
    ]


# -- what is shared ---------------------------------------------------------------------------------------------------


def hits(bench: Bench) -> int:
    return bench.scheduler.prefix_hit_tokens


def test_a_follow_up_computes_only_what_is_new():
    bench = Bench()
    first = bench.add("first", 40, new=10, scope=b"talk")
    bench.run()

    bench.add("next", [*first.tokens, 1, 2, 3], scope=b"talk")

    assert bench.step() == [("next", 53 - 48)]
    assert hits(bench) == 48


def test_the_same_prompt_again_still_computes_its_last_token():
    bench = Bench()
    for name in ("first", "again"):
        bench.add(name, 48, new=1, scope=b"talk")
        bench.run()

    assert hits(bench) == 32


@pytest.mark.rule("L2")
def test_other_scopes_share_nothing():
    bench = Bench()
    for name in ("one", "two"):
        bench.add(name, 48, new=1)
        bench.run()

    assert hits(bench) == 0


def test_another_beginning_shares_nothing():
    bench = Bench()
    bench.add("one", [1] + [5] * 47, new=1, scope=b"x")
    bench.run()
    bench.add("two", [2] + [5] * 47, new=1, scope=b"x")
    bench.run()

    assert hits(bench) == 0


def test_what_is_shared_survives_the_end_of_either():
    bench = Bench(pages=20)
    first = bench.add("first", 48, new=50, scope=b"x")
    bench.step()
    second = bench.add("second", [*range(100, 148), 5, 6], new=50, scope=b"x")
    bench.step()
    assert first.pages[:3] == second.pages[:3]

    first.is_over = True
    bench.run()

    assert bench.finished == ["second"]
    assert bench.pool.available == 20


def test_what_is_idle_longest_goes_first_and_its_end_before_its_beginning():
    bench = Bench(pages=8)
    for name in ("old", "new"):
        bench.add(name, 48, new=1)
        bench.run()
    bench.add("big", 60, new=1)
    bench.run()

    for name, expected in (("new", 32), ("old", 16)):
        before = hits(bench)
        bench.add(name, 48, new=1)
        bench.step()
        assert hits(bench) - before == expected
