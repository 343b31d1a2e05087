from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from monitoring.flood import FloodControl


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flood(clock: Clock) -> FloodControl:
    return FloodControl(period_s=60, most_keys=3, clock=clock)


def test_the_first_is_due_at_once_and_then_one_a_minute_with_a_count(flood, clock):
    first = [flood.due("a") for _ in range(5)]
    clock.now += 59.9
    within = flood.due("a")
    clock.now += 0.1
    after = [flood.due("a"), flood.due("a")]

    assert (first, within, after) == ([1, 0, 0, 0, 0], 0, [6, 0])


def test_keys_do_not_hide_each_other_when_both_are_new(flood):
    assert [flood.due("a"), flood.due("b"), flood.due("a")] == [1, 1, 0]


def test_the_end_of_a_flood_is_told_when_its_minute_is_over(flood, clock):
    for number in range(4):
        flood.due("a", memo=number)
    assert flood.overdue() == []
    clock.now += 60

    assert flood.overdue() == [(3, 3)]
    assert flood.due("a") == 0  # the count was just told: the next minute runs
    clock.now += 60
    assert flood.overdue() == [(None, 1)]


def test_everything_waiting_is_told_when_the_process_ends(flood):
    flood.due("a", memo="x")
    flood.due("a", memo="x")

    assert flood.overdue(everything=True) == [("x", 1)]


def test_new_keys_share_a_window_when_there_are_too_many(flood, clock):
    assert [flood.due(key) for key in "abcdefg"] == [1, 1, 1, 1, 0, 0, 0]
    clock.now += 60
    assert flood.due("h") == 1  # the idle ones were forgotten
    assert len(flood._windows) <= 4


def test_no_event_is_lost_when_many_threads_count(clock):
    class SlowKey:
        def __hash__(self) -> int:
            time.sleep(0.001)  # lets other threads in between reading and writing
            return 1

    flood, key = FloodControl(clock=clock), SlowKey()
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: flood.due(key), range(100)))
    clock.now += 60

    assert sum(told) == 1
    assert flood.due(key) == 100  # the 99 untold ones and this one
