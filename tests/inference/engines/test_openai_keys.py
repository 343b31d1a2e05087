"""Several keys of one service: they take turns, and a refused one rests."""

from __future__ import annotations

import time

from tests.servers.model_service import ModelService, Script

from .asking import answer


def keys_used(service: ModelService) -> list[str]:
    return [asked.headers["Authorization"].removeprefix("Bearer ") for asked in service.requests]


def test_keys_take_turns(with_keys, service):
    engine = with_keys("good-1", "good-2", "good-3")

    for _ in range(4):
        answer(engine)

    assert keys_used(service) == ["good-1", "good-2", "good-3", "good-1"]


def test_a_refused_key_rests_and_the_next_one_answers_at_once(with_keys, service):
    refused: list = []
    engine = with_keys("bad-key", "good-1", refused=refused)
    began_at = time.monotonic()

    results = [answer(engine).finish for _ in range(3)]

    assert results == ["stop"] * 3
    assert keys_used(service) == ["bad-key", "good-1", "good-1", "good-1"]
    assert time.monotonic() - began_at < 1
    assert refused == [("id-bad-key", "HTTP 401: wrong key ***", 600.0)]


def test_a_key_over_its_limit_rests_as_long_as_the_service_says(with_keys, service):
    refused: list = []
    engine = with_keys("good-1", "good-2", refused=refused)
    service.script(Script(status=429, headers={"Retry-After": "1"}), Script(["fine"]))

    assert answer(engine).text == "fine"
    assert answer(engine).text == "fine"
    time.sleep(1.1)
    answer(engine)
    answer(engine)

    assert keys_used(service) == ["good-1", "good-2", "good-2", "good-1", "good-2"]
    assert refused == [("id-good-1", "HTTP 429", 1.0)]


def test_a_key_without_a_rest_is_not_asked_in_a_circle(with_keys, service):
    engine = with_keys("good-1", "good-2")
    service.script(*[Script(status=429, headers={"Retry-After": "0"})] * 2, Script(["fine"]))

    assert answer(engine).text == "fine"
    assert service.requests[2].at - service.requests[1].at > 0.2


def test_when_every_key_is_refused_the_answer_ends_soon(with_keys, service):
    result = answer(with_keys("bad-1", "bad-2"))

    assert (result.finish, result.error) == ("error", "the service refused the API key")
    assert keys_used(service) == ["bad-1", "bad-2"]
