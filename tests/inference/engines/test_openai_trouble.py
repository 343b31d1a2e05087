"""A service that fails: what the remote engine asks again, what it tells, and when it stops asking."""

from __future__ import annotations

import itertools
import json
import time

import httpx
import pytest

from inference.base import ChatMessage, Delta, GenRequest
from inference.engines.breaker import CircuitBreaker
from inference.engines.openai import OpenAIEngine
from inference.errors import BadRequest, EngineDown
from tests.servers.model_service import Script, closed_port

from .asking import answer, ask, events, ids


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_passing_trouble_is_asked_again(engine, service, status):
    service.script(Script(status=status), Script(["fine"]))

    assert answer(engine).text == "fine"
    assert len(service.requests) == 2


def test_retry_after_is_obeyed(engine, service):
    service.script(Script(status=429, headers={"Retry-After": "1"}), Script(["fine"]))

    assert answer(engine).text == "fine"
    waited_s = service.requests[1].at - service.requests[0].at
    assert 1 <= waited_s < 3


def test_an_endless_retry_after_does_not_hold_the_request(make_engine, service):
    service.script(Script(status=429, headers={"Retry-After": "86400"}))
    began_at = time.monotonic()

    result = answer(make_engine(retry_budget_s=5))

    assert result.finish == "error"
    assert time.monotonic() - began_at < 2
    assert len(service.requests) == 1


def test_retries_end_with_their_budget(make_engine, service):
    service.script(Script(status=500, body='{"error": {"message": "inner 10.0.0.7"}}'))
    began_at = time.monotonic()

    reply = make_engine(retry_budget_s=2).submit(ask())  # submit itself does not ask
    assert service.requests == []
    deltas = list(reply)

    assert deltas == [Delta(finish="error", error="the service answered 500: inner 10.0.0.7")]
    assert len(service.requests) >= 2
    assert time.monotonic() - began_at < 4


def test_pauses_grow_and_differ(engine, service):
    service.script(*[Script(status=500)] * 4, Script(["fine"]))

    answer(engine)

    at = [asked.at for asked in service.requests]
    pauses = [after - before for before, after in itertools.pairwise(at)]
    assert len(pauses) == 4
    assert 0.2 < pauses[0] < 1
    assert pauses[3] > 1.9


def test_a_refused_connection_is_asked_again_until_the_budget_ends(http):
    with closed_port() as base_url:
        engine = OpenAIEngine(base_url, "m", "key", http, retry_budget_s=1)
        result = answer(engine)

    assert result.finish == "error"
    assert "ConnectError" in result.error


def test_a_cut_before_the_first_token_is_asked_again(engine, service):
    service.script(Script(["a"], cut_after=0), Script(["fine"]))

    assert answer(engine).text == "fine"


@pytest.mark.parametrize(
    "script", [Script(["begun ", "and"], cut_after=1), Script(["begun "], finish=None, is_done=False)]
)
def test_a_cut_after_the_first_token_is_an_error(engine, service, script):
    service.script(script)

    deltas = list(engine.submit(ask()))

    assert deltas[0] == Delta("begun ")
    assert [delta.finish for delta in deltas[1:]] == ["error"]
    assert deltas[1].error.startswith("the answer was cut off: ")
    assert len(service.requests) == 1


def test_an_error_inside_the_stream(engine, service):
    delta = '{"choices": [{"delta": {"content": "begun"}}]}'
    service.script(Script(raw=events(delta, '{"error": {"message": "CUDA error", "code": 500}}')))

    deltas = list(engine.submit(ask()))

    assert deltas == [Delta("begun"), Delta(finish="error", error=deltas[1].error)]
    assert "CUDA error" in deltas[1].error


def test_a_stream_that_is_not_json(make_engine, service):
    service.script(Script(raw=b"data: <html>\n\n"))

    assert "not JSON" in answer(make_engine(retry_budget_s=0.1)).error


def test_an_endless_event_is_given_up(make_engine, service):
    service.script(Script(as_json=True, headers={"Content-Type": "text/event-stream"}, body="data: " + "x" * 2_000_000))

    assert "larger than a mebibyte" in answer(make_engine(retry_budget_s=0.1)).error


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (400, "unknown model", "the service refused the request: unknown model"),
        (403, "go away", "the service refused the API key"),
        (404, "no model fake", "the service does not know the address or the model: no model fake"),
        (418, "teapot", "the service answered 418: teapot"),
        (302, "", "the service answered 302"),
    ],
)
def test_lasting_trouble_is_not_asked_again(engine, service, status, message, said):
    service.script(Script(status=status, body=json.dumps({"error": {"message": message}}) if message else ""))

    result = answer(engine)

    assert (result.finish, result.error) == ("error", said)
    assert len(service.requests) == 1


def test_a_wrong_key_is_told_and_never_shown(service, http):
    result = answer(OpenAIEngine(service.base_url, "m", "sk-wrong-key", http))

    assert result.error == "the service refused the API key"


def test_errors_are_short_and_hide_the_key(engine, service):
    service.script(Script(status=400, body=f"Bearer {service.api_key} {service.api_key} sk-other " + "blah " * 200))

    error = answer(engine).error

    assert service.api_key not in error
    assert "sk-other" not in error
    assert len(error) <= 300


def test_bad_pictures_are_refused_at_once(engine):
    with pytest.raises(BadRequest):
        engine.submit(GenRequest(next(ids), (ChatMessage("user", "?", images=(b"%PDF",)),)))


def test_json_nested_without_end_is_not_json(make_engine, service):
    service.script(Script(as_json=True, body="[" * 200_000))

    assert answer(make_engine(retry_budget_s=0.1)).error == "the service sent something that is not JSON"


def test_a_web_page_in_place_of_a_service_is_told_at_once(engine, service):
    service.script(Script(as_json=True, body="<html>Welcome</html>", headers={"Content-Type": "text/html; charset=x"}))

    assert "web page" in answer(engine).error
    assert len(service.requests) == 1


def test_an_unforeseen_exception_of_the_client_is_one_final_delta():
    def guard(request: httpx.Request) -> httpx.Response:
        raise PermissionError("blocked address")

    with httpx.Client(transport=httpx.MockTransport(guard)) as http:
        deltas = list(OpenAIEngine("http://model.test/v1", "m", "k", http).submit(ask()))

    assert deltas == [Delta(finish="error", error="unexpected PermissionError")]


# -- the breaker ------------------------------------------------------------------------------------------------------


def test_the_breaker_opens_and_closes_again(make_engine, service):
    engine = make_engine(retry_budget_s=0, breaker=CircuitBreaker(threshold=3, open_s=0.5))
    service.script(*[Script(status=500)] * 3, Script(["fine"]))
    for _ in range(3):
        assert answer(engine).finish == "error"

    with pytest.raises(EngineDown) as refused:
        engine.submit(ask())

    assert 0 < refused.value.retry_after_s <= 0.5
    assert str(refused.value).endswith("last: the service answered 500")
    assert len(service.requests) == 3
    time.sleep(0.6)
    assert answer(engine).text == "fine"
    assert answer(engine).text == "fine"


def test_the_breaker_ignores_what_is_the_requests_fault(make_engine, service):
    engine = make_engine(breaker=CircuitBreaker(threshold=1))
    service.script(Script(status=400), Script(["fine"]))

    assert answer(engine).finish == "error"
    assert answer(engine).text == "fine"
