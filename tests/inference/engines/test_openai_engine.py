"""What the remote engine asks of a service on a real socket, and what it makes of the answer."""

from __future__ import annotations

import pytest

from inference.base import ChatMessage, Delta, GenRequest
from tests.servers.model_service import Script

from .asking import answer, ask, events, ids

PNG = b"\x89PNG\r\n\x1a\n rest"


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


@pytest.mark.parametrize("count", [-5, 10**12, True, 2.5, "7", None])
def test_a_wrong_usage_is_estimated_instead(engine, service, count):
    service.script(Script(["four words of text"], usage={"prompt_tokens": 3, "completion_tokens": count}))
    reply = engine.submit(ask())

    assert reply.result().usage.completion_tokens == 5
    assert reply.usage_is_estimated


def test_a_service_that_ignores_the_limit_is_cut(engine, service):
    service.script(Script(["x" * 3000] * 100))

    result = answer(engine, ask(max_new_tokens=10))

    assert (result.finish, len(result.text)) == ("length", 6000)
