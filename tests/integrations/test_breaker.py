from __future__ import annotations

from integrations.breaker import LONGEST_PAUSE_S, PROBE_S, THRESHOLD, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def broken(clock: Clock) -> Breaker:
    breaker = Breaker("app", clock)
    for _ in range(THRESHOLD):
        assert breaker.enter() == 0.0
        breaker.report("wrong secret")
    return breaker


def test_calls_pass_until_enough_have_failed_in_a_row() -> None:
    breaker = Breaker("app", Clock())
    for _ in range(THRESHOLD - 1):
        breaker.report("wrong secret")
    breaker.report()
    for _ in range(THRESHOLD - 1):
        breaker.report("wrong secret")

    assert breaker.enter() == 0.0


def test_calls_are_stopped_with_the_reason_when_the_app_is_broken() -> None:
    breaker = broken(Clock())

    assert (breaker.enter(), breaker.reason) == (2.0, "wrong secret")


def test_one_probe_at_a_time_passes_after_the_pause() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += 2.0

    assert [breaker.enter(), breaker.enter()] == [0.0, PROBE_S]


def test_all_calls_pass_again_when_the_probe_succeeded() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += 2.0
    breaker.enter()
    breaker.report()

    assert [breaker.enter() for _ in range(3)] == [0.0] * 3


def test_the_pause_doubles_up_to_a_minute_when_probes_fail() -> None:
    clock = Clock()
    breaker, pauses = broken(clock), []
    for _ in range(7):
        pauses.append(breaker.enter())
        clock.now += pauses[-1]
        assert breaker.enter() == 0.0
        breaker.report("wrong secret")

    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_calls_that_were_under_way_when_it_opened_do_not_prolong_the_pause() -> None:
    breaker = broken(Clock())
    for _ in range(20):
        breaker.report("wrong secret")

    assert breaker.enter() == 2.0


def test_the_next_call_may_probe_when_one_was_not_made_or_never_reported() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += 2.0
    breaker.enter()
    breaker.leave()

    assert breaker.enter() == 0.0
    clock.now += PROBE_S
    assert breaker.enter() == 0.0
