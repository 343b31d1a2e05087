"""The health check of the remote engine."""

from __future__ import annotations

import pytest

from inference.engines.openai import OpenAIEngine
from tests.servers.model_service import ModelService, Script, closed_port


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
