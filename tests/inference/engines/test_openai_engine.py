"""The remote engine against a service on a real socket that misbehaves."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from inference.base import ChatMessage, Delta, GenRequest, Result, SamplingParams
from inference.engines.breaker import CircuitBreaker
from inference.engines.keys import ApiKey, KeyRing
from inference.engines.openai import OpenAIEngine
from inference.errors import BadRequest, EngineDown
from tests.servers.model_service import ModelService, Script, closed_port

ids = (f"openai-{n}" for n in itertools.count())
PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.fixture
def make(service, http):
    def make(**options: object) -> OpenAIEngine:
        return OpenAIEngine(service.base_url, "fake", service.api_key, http, **options)

    return make


@pytest.fixture
def engine(make) -> OpenAIEngine:
    return make()


def ask(text: str = "hello", *, deadline_s: float | None = None, **sampling: object) -> GenRequest:
    return GenRequest(next(ids), (ChatMessage("user", text),), SamplingParams(**sampling), deadline_s)


def answer(engine: OpenAIEngine, request: GenRequest | None = None) -> Result:
    return engine.submit(request or ask()).result()


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "it never happened"
        time.sleep(0.02)


def events(*bodies: str) -> bytes:
    return "".join(f"data: {body}\n\n" for body in bodies).encode()


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_only_chosen_values_are_sent(engine, service):
    answer(engine, ask(max_new_tokens=9))

    assert service.requests[0].body == {
        "model": "fake",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
    }


def test_chosen_values_are_sent(engine, service):
    answer(engine, ask(temperature=0.0, top_p=0.5, seed=3, stop=("END",)))

    body = service.requests[0].body
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.0, 0.5, 3, ["END"])


def test_pictures_go_as_data_urls(engine, service):
    request = GenRequest(next(ids), (ChatMessage("user", "what?", images=(PNG,)),))

    answer(engine, request)

    text, picture = service.requests[0].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "what?"}
    assert picture == {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgogcmVzdA=="}}


def test_a_service_without_stream_options_is_remembered(engine, service):
    service.refuses_stream_options = True

    results = [answer(engine), answer(engine)]

    assert [result.text for result in results] == ["echo: hello"] * 2
    assert ["stream_options" in asked.body for asked in service.requests] == [True, False, False]


def test_a_model_that_knows_only_max_completion_tokens(engine, service):
    refusal = '{"error": {"message": "Use \'max_completion_tokens\' instead of max_tokens."}}'
    service.script(Script(status=400, body=refusal), Script())

    assert answer(engine, ask(max_new_tokens=5)).finish == "stop"
    assert service.requests[1].body["max_completion_tokens"] == 5
    assert "max_tokens" not in service.requests[1].body


# -- what is answered -------------------------------------------------------------------------------------------------


def test_usage_is_what_the_service_counted(engine, service):
    service.script(Script(["a", "b"]))
    reply = engine.submit(ask())

    result = reply.result()

    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (11, 7)
    assert not reply.usage_is_estimated


def test_missing_usage_is_estimated(engine, service):
    service.script(Script(["四个汉字", " and"], usage=None))
    reply = engine.submit(ask())

    assert reply.result().usage.completion_tokens == 5
    assert reply.usage_is_estimated


def test_every_byte_may_come_alone(engine, service):
    text = "你好 👨‍👩‍👧 é"
    delta = '{"choices": [{"delta": {"content": "%s"}}]}'
    raw = ": comment\r\n\r\nevent: x\r\ndata: " + delta % text + "\r\n\r\n" + "data: [DONE]\r\n\r\n"
    service.script(Script(raw=raw.encode()))

    assert list(engine.submit(ask())) == [Delta(text), Delta(finish="stop")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_fields_are_no_answer(engine, service, name):
    service.script(Script([{name: "let me think"}, "Yes"]))

    assert list(engine.submit(ask())) == [Delta("let me think", "reasoning"), Delta("Yes"), Delta(finish="stop")]


def test_think_blocks_are_no_answer(engine, service):
    service.script(Script(["<th", "ink>secret", "</thi", "nk>\n\nYes"]))
    reply = engine.submit(ask())

    assert [(delta.kind, delta.text) for delta in reply if delta.text] == [("reasoning", "secret"), ("answer", "Yes")]
    assert reply.result().text == "Yes"


def test_length_is_told(engine, service):
    service.script(Script(["a"], finish="length"))

    assert answer(engine).finish == "length"


@pytest.mark.parametrize("pieces", [[], [" \n"], [{"reasoning_content": "hm"}], ["<think>hm"]])
def test_an_answer_without_text_is_an_error(engine, service, pieces):
    service.script(Script(pieces))

    result = answer(engine)

    assert result.finish == "error"
    assert result.error.startswith("the model returned no text")
    assert len(service.requests) == 1


def test_a_service_that_does_not_stream(engine, service):
    body = '{"choices": [{"message": {"content": "whole"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}'
    service.script(Script(as_json=True, body=body))

    result = answer(engine)

    assert (result.text, result.finish, result.usage.total_tokens) == ("whole", "stop", 3)


# -- what fails -------------------------------------------------------------------------------------------------------


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


def test_an_endless_retry_after_does_not_hold_the_request(make, service):
    service.script(Script(status=429, headers={"Retry-After": "86400"}))
    began_at = time.monotonic()

    result = answer(make(retry_budget_s=5))

    assert result.finish == "error"
    assert time.monotonic() - began_at < 2
    assert len(service.requests) == 1


def test_retries_end_with_their_budget(make, service):
    service.script(Script(status=500, body='{"error": {"message": "inner 10.0.0.7"}}'))
    began_at = time.monotonic()

    reply = make(retry_budget_s=2).submit(ask())  # submit itself does not ask
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


def test_a_stream_that_is_not_json(make, service):
    service.script(Script(raw=b"data: <html>\n\n"))

    assert "not JSON" in answer(make(retry_budget_s=0.1)).error


def test_an_endless_event_is_given_up(make, service):
    service.script(Script(as_json=True, headers={"Content-Type": "text/event-stream"}, body="data: " + "x" * 2_000_000))

    assert "larger than a mebibyte" in answer(make(retry_budget_s=0.1)).error


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


@pytest.mark.parametrize(
    "event",
    [
        '{"choices": 5}',
        '{"choices": [null, "x"]}',
        '{"choices": [{"delta": "text"}]}',
        '{"choices": [{"delta": {"content": {"a": 1}}, "finish_reason": 7}], "usage": "many"}',
    ],
)
def test_events_of_a_strange_shape_are_no_text_and_break_nothing(engine, service, event):
    service.script(Script(raw=events(event, "[DONE]")))

    assert answer(engine).error == "the model returned no text"


def test_json_nested_without_end_is_not_json(make, service):
    service.script(Script(as_json=True, body="[" * 200_000))

    assert answer(make(retry_budget_s=0.1)).error == "the service sent something that is not JSON"


@pytest.mark.parametrize("count", [-5, 10**12, True, 2.5, "7", None])
def test_a_wrong_usage_is_estimated_instead(engine, service, count):
    service.script(Script(["four words of text"], usage={"prompt_tokens": 3, "completion_tokens": count}))
    reply = engine.submit(ask())

    assert reply.result().usage.completion_tokens == 5
    assert reply.usage_is_estimated


def test_a_web_page_in_place_of_a_service_is_told_at_once(engine, service):
    service.script(Script(as_json=True, body="<html>Welcome</html>", headers={"Content-Type": "text/html; charset=x"}))

    assert "web page" in answer(engine).error
    assert len(service.requests) == 1


def test_a_service_that_ignores_the_limit_is_cut(engine, service):
    service.script(Script(["x" * 3000] * 100))

    result = answer(engine, ask(max_new_tokens=10))

    assert (result.finish, len(result.text)) == ("length", 6000)


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_keys(service, http):
    """Makes an engine with these keys, of which the service takes all that begin with ``good``."""

    def make(*secrets: str, refused: list | None = None) -> OpenAIEngine:
        service.further_keys = {secret for secret in secrets if secret.startswith("good")}
        note = (lambda key, why, rest_s: refused.append((key.id, why, rest_s))) if refused is not None else None
        ring = KeyRing([ApiKey(secret, id=f"id-{secret}") for secret in secrets], *filter(None, [note]))
        return OpenAIEngine(service.base_url, "m", ring, http)

    return make


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


# -- time -------------------------------------------------------------------------------------------------------------


def test_no_first_token_in_time(make, service):
    service.script(Script(["never"], stall_after=0, keeps_alive_by_comments=True))
    began_at = time.monotonic()

    result = answer(make(first_token_timeout_s=0.5))

    assert (result.finish, result.error) == ("error", "the service sent no text in time")
    assert time.monotonic() - began_at < 1.5
    assert service.requests[0].left.wait(1)


def test_a_request_can_be_less_patient_than_its_engine(engine, service):
    service.script(Script(["never"], wait_s=30))
    began_at = time.monotonic()

    request = GenRequest(next(ids), (ChatMessage("user", "hello"),), first_token_s=0.5)
    result = engine.submit(request).result()

    assert (result.finish, result.error) == ("error", "the service sent no text in time")
    assert time.monotonic() - began_at < 1.5


def test_silence_between_tokens(make, service):
    service.script(Script(["begun", "never"], stall_after=1))

    result = answer(make(between_tokens_timeout_s=0.5))

    assert (result.text, result.finish) == ("begun", "error")
    assert service.requests[0].left.wait(1)


def test_a_slow_reader_is_not_the_services_fault(make, service):
    service.script(Script(["a", *"bcdefgh"], piece_s=0.3))
    reply = make(between_tokens_timeout_s=0.7).submit(ask())

    for delta in reply:
        if delta.text == "b":
            time.sleep(1.2)

    assert reply.result().text == "abcdefgh"


@pytest.mark.parametrize("script", [Script(wait_s=30), Script(["a"], stall_after=0), Script(["a", "b"], stall_after=1)])
def test_cancel_wakes_a_blocked_read(engine, service, script):
    service.script(Script(status=503), script)  # the second try must not hide on the first one's connection
    reply = engine.submit(ask())
    finishes: list[str | None] = []
    reader = threading.Thread(target=lambda: finishes.extend(d.finish for d in reply if d.finish))
    reader.start()
    wait_until(lambda: len(service.requests) == 2)
    time.sleep(0.2)

    began_at = time.monotonic()
    reply.cancel()
    reader.join(5)

    assert finishes == ["cancelled"]
    assert time.monotonic() - began_at < 0.5
    assert service.requests[-1].left.wait(1), "the service goes on"


def test_cancel_and_deadline_while_waiting_for_a_retry(engine, service):
    service.script(Script(status=429, headers={"Retry-After": "15"}))
    reply = engine.submit(ask())
    threading.Timer(0.3, reply.cancel).start()
    began_at = time.monotonic()

    assert reply.result().finish == "cancelled"
    assert engine.submit(ask(deadline_s=0.5)).result().finish == "deadline"
    assert time.monotonic() - began_at < 2


def test_a_transport_without_sockets_is_tolerated():
    body = 'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    with httpx.Client(transport=transport) as http:
        reply = OpenAIEngine("http://model.test/v1", "m", "k", http).submit(ask())
        first = next(iter(reply))
        reply.cancel()

        assert (first.text, reply.result().finish) == ("hi", "cancelled")


def test_an_unforeseen_exception_of_the_client_is_one_final_delta():
    def guard(request: httpx.Request) -> httpx.Response:
        raise PermissionError("blocked address")

    with httpx.Client(transport=httpx.MockTransport(guard)) as http:
        deltas = list(OpenAIEngine("http://model.test/v1", "m", "k", http).submit(ask()))

    assert deltas == [Delta(finish="error", error="unexpected PermissionError")]


# -- the breaker ------------------------------------------------------------------------------------------------------


def test_the_breaker_opens_and_closes_again(make, service):
    engine = make(retry_budget_s=0, breaker=CircuitBreaker(threshold=3, open_s=0.5))
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


def test_the_breaker_ignores_what_is_the_requests_fault(make, service):
    engine = make(breaker=CircuitBreaker(threshold=1))
    service.script(Script(status=400), Script(["fine"]))

    assert answer(engine).finish == "error"
    assert answer(engine).text == "fine"


# -- the health check -------------------------------------------------------------------------------------------------


def test_check_asks_the_legacy_call_first(http):
    with ModelService(has_completions=True) as service:
        service.script(Script(["I am ", "fine"]))
        health = OpenAIEngine(service.base_url, "m", service.api_key, http).check("How are you?")

    assert (health.ok, health.status, health.text, health.error) == (True, 200, "I am fine", "")
    assert 0 < health.first_token_s < 2
    assert [(asked.path, asked.body["prompt"]) for asked in service.requests] == [("/v1/completions", "How are you?")]


def test_check_asks_the_chat_where_there_is_no_legacy_call(engine, service):
    health = engine.check("ping")

    assert (health.ok, health.text) == (True, "echo: ping")
    assert [asked.path for asked in service.requests] == ["/v1/completions", "/v1/chat/completions"]


@pytest.mark.parametrize("status", [400, 405, 422])
def test_check_asks_the_chat_where_the_legacy_call_is_not_for_this_model(http, status):
    with ModelService(has_completions=True) as service:
        service.script(
            Script(status=status, body='{"error": "a chat model"}'), Script(["I ", "am ", "fine"], piece_s=0.05)
        )
        health = OpenAIEngine(service.base_url, "m", service.api_key, http).check()

    assert (health.ok, health.text) == (True, "I am fine")
    assert 10 < health.tokens_per_s < 60


def test_check_asks_as_an_answer_would(engine, with_keys, service):
    refusal = '{"error": {"message": "Use \'max_completion_tokens\' instead of max_tokens."}}'
    service.script(Script(status=400, body=refusal), Script(["fine"]))

    assert engine.check().text == "fine"
    assert service.requests[-1].body["max_completion_tokens"] == 32
    assert with_keys("bad-1", "bad-2", "good-1").check().ok


def test_check_tells_what_is_wrong(engine, service, http):
    service.script(Script(status=500, body='{"error": {"message": "loading"}}'))
    with closed_port() as base_url:
        nobody = OpenAIEngine(base_url, "m", "k", http).check()

    assert (engine.check().ok, engine.check().status, engine.check().error) == (
        False,
        500,
        "the service answered 500: loading",
    )
    assert (nobody.ok, nobody.status) == (False, 0)
    assert OpenAIEngine(service.base_url, "m", "bad", http).check().error == "the service refused the API key"


def test_check_has_an_end(engine, service):
    service.script(Script(["a"], stall_after=0))

    health = engine.check(timeout_s=0.5)

    assert (health.ok, health.error) == (False, "the service sent no text in time")
