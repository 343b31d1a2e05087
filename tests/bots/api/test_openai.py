"""``/v1``: the official client unchanged, the wire itself, and every error in OpenAI's shape."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import openai
import pytest
from django.core.asgi import get_asgi_application
from django.test import AsyncClient
from rest_framework.test import APIClient

from bots.models import Bot, Message
from inference.models import LanguageModel
from tests import factories
from tests.servers.model_service import Script

pytestmark = pytest.mark.django_db(transaction=True)
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()


@pytest.fixture
def disabled_bot(db: None) -> Bot:
    return factories.bot(slug="off", is_enabled=False)


@pytest.fixture
def reader_key(key_with) -> str:
    return key_with("bots:read")


def sdk(key: str) -> openai.AsyncOpenAI:
    transport = httpx.ASGITransport(app=get_asgi_application(), raise_app_exceptions=False)
    http = httpx.AsyncClient(transport=transport, trust_env=False)
    return openai.AsyncOpenAI(base_url="http://localhost/v1", api_key=key, max_retries=0, http_client=http)


def chat(caller: APIClient, **body: object):
    return caller.post(CHAT, {"model": "helper", "messages": HELLO, **body})


def error_of(response) -> dict[str, object]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


# -- the official client --


async def test_the_official_client_lists_bots_as_models(chat_key, bot, disabled_bot):
    async with sdk(chat_key) as client:
        assert [model.id async for model in client.models.list()] == ["helper"]
        assert (await client.models.retrieve("helper")).id == "helper"


async def test_the_official_client_gets_an_answer(chat_key, bot, worker):
    async with sdk(chat_key) as client:
        answer = await client.chat.completions.create(model="helper", messages=[{"role": "user", "content": "你好"}])

    reply = await Message.objects.aget(role="assistant")
    assert answer.choices[0].message.content == "echo: 你好"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == reply.completion_tokens > 0
    assert answer.usage.prompt_tokens == reply.prompt_tokens


async def test_the_official_client_streams(chat_key, bot, worker):
    async with sdk(chat_key) as client:
        stream = await client.chat.completions.create(
            model="helper", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    first, *_, closing, last = chunks
    assert first.choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "echo: Hello"
    assert closing.choices[0].finish_reason == "stop"
    assert (last.choices, last.usage.completion_tokens > 0) == ([], True)
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_the_official_client_completes_a_prompt(chat_key, bot, worker):
    async with sdk(chat_key) as client:
        whole = await client.completions.create(model="helper", prompt="Hello")
        stream = await client.completions.create(model="helper", prompt="Hello", stream=True)
        pieces = [chunk.choices[0].text async for chunk in stream]

    assert (whole.object, whole.choices[0].text) == ("text_completion", "echo: Hello")
    assert "".join(pieces) == "echo: Hello"


async def test_the_official_client_raises_its_own_errors(chat_key, reader_key, bot):
    async with sdk("wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="helper", messages=HELLO)
    async with sdk(reader_key) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="helper", messages=HELLO)
    async with sdk(chat_key) as client:
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="no-such-bot", messages=HELLO)
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="helper", messages=[])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failing_model_is_an_http_error_without_inner_words(chat_key, remote_bot, service, worker, stream):
    service.script(Script(status=401, body="inner words 10.0.0.1"))

    async with sdk(chat_key) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model="helper", messages=HELLO, stream=stream)

    assert (failed.value.status_code, failed.value.code) == (502, "model_failed")
    assert "inner words" not in str(failed.value)


async def test_a_model_that_fails_midway_ends_the_stream_with_an_error(chat_key, remote_bot, service, worker):
    service.script(Script(["one ", "two ", "three"], piece_s=0.1, cut_after=2))

    async with sdk(chat_key) as client:
        stream = await client.chat.completions.create(model="helper", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]


# -- what reaches the model --


def test_the_whole_request_reaches_the_model(caller, remote_bot, service, worker):
    Bot.objects.update(system_prompt="You are the bot.", temperature=1.0)
    messages = [
        {"role": "system", "content": "rule"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "last"}]},
    ]
    chat(caller, messages=messages, temperature=0.25, top_p=0.5, max_completion_tokens=77, stop="END", seed=3)

    body = service.requests[0].body
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "You are the bot."),
        ("user", "rule\n\nfirst"),
        ("assistant", "ok"),
        ("user", "last"),
    ]
    assert (body["temperature"], body["top_p"], body["stop"], body["seed"]) == (0.25, 0.5, ["END"], 3)
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    question = Message.objects.get(role="user")
    assert (question.text, question.status) == ("last", "delivered")
    assert set(question.details["request"]) == {"messages", "temperature", "top_p", "max_tokens", "stop", "seed"}


def test_each_call_is_a_conversation_of_its_own(caller, bot, worker):
    for _ in range(2):
        chat(caller)

    assert Message.objects.filter(role="user").values("conversation").distinct().count() == 2


def test_a_cut_answer_says_so(caller, bot, worker):
    answer = chat(caller, max_tokens=1).json()

    assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_stream_on_the_wire(chat_key, bot, worker):
    response = await post(chat_key, {"model": "helper", "messages": HELLO, "stream": True})

    wire = b"".join([part async for part in response.streaming_content]).decode()
    lines = [line[6:] for line in wire.split("\n\n") if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == "[DONE]"
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({c["id"] for c in chunks}) == 1
    assert [c for c in chunks if "usage" in c] == []
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert (response["Cache-Control"], response["X-Accel-Buffering"]) == ("no-cache", "no")


async def test_a_caller_who_leaves_stops_the_model(chat_key, remote_bot, service, worker):
    service.script(Script(["piece "] * 200, piece_s=0.05))
    response = await post(chat_key, {"model": "helper", "messages": HELLO, "stream": True})
    parts = response.streaming_content.__aiter__()
    for _ in range(3):
        await anext(parts)

    await asyncio.to_thread(response.close)  # as Django's ASGI handler does when a client has left

    assert await asyncio.to_thread(service.requests[0].left.wait, 5)


async def post(key: str, body: dict[str, object]):
    headers = {"Authorization": f"Bearer {key}"}
    return await AsyncClient().post(CHAT, body, content_type="application/json", headers=headers)


# -- errors --


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content"),
        ({"messages": HELLO * 501}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 1_100_000}]}, "messages"),
        ({"temperature": 9}, "temperature"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream_options": {"include_usage": "perhaps"}}, "stream_options.include_usage"),
    ],
)
def test_a_bad_request_names_its_parameter(caller, bot, body, param):
    response = chat(caller, **body)

    error = error_of(response)
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert str(error["param"]).startswith(param)
    assert Message.objects.count() == 0


@pytest.mark.parametrize("url", [PICTURE, "https://example.com/cat.png"])
def test_a_picture_for_a_model_that_cannot_see_is_refused(caller, bot, url):
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]

    response = chat(caller, messages=[{"role": "user", "content": parts}])

    assert (response.status_code, error_of(response)["type"]) == (400, "invalid_request_error")


def test_a_picture_for_a_model_that_sees_is_stored_with_the_request(caller, bot, worker):
    LanguageModel.objects.update(vision=True)
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]

    chat(caller, messages=[{"role": "user", "content": parts}])

    stored = Message.objects.get(role="user").details["request"]["messages"]
    assert stored == [{"role": "user", "text": "What is it?", "images": [PICTURE.partition(",")[2]]}]


def test_an_unknown_bot_is_an_unknown_model(caller, bot):
    response = chat(caller, model="no-such-bot")

    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(("method", "path"), [("get", "/v1/models"), ("post", CHAT), ("post", "/v1/completions")])
def test_nobody_is_refused_in_openais_shape(method, path):
    response = getattr(APIClient(), method)(path)

    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")


def test_models_are_listed_with_either_scope(client_with, bot):
    assert client_with("bots:read").get("/v1/models").status_code == 200
    assert client_with("chat").get("/v1/models").status_code == 200
    refused = client_with("messages:read").get("/v1/models")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "insufficient_permissions")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("get", "/v1/nothing", 404), ("post", "/v1/models", 405), ("get", CHAT, 405), ("get", "/v1/models/nobody", 404)],
)
def test_every_other_error_has_openais_shape_too(caller, bot, method, path, status):
    response = getattr(caller, method)(path)

    assert response.status_code == status
    error_of(response)


def test_broken_json_has_openais_shape_too(caller, bot):
    response = caller.post(CHAT, b"{broken", content_type="application/json")

    assert (response.status_code, error_of(response)["type"]) == (400, "invalid_request_error")


def test_who_asks_too_fast_gets_a_429(caller, bot, worker):
    Bot.objects.update(rate_limit_per_user_per_minute=1)

    first, second = chat(caller), chat(caller)

    assert (first.status_code, second.status_code) == (200, 429)
    assert error_of(second)["code"] == "rate_limit_exceeded"


async def test_who_streams_too_fast_gets_a_429(chat_key, bot, worker):
    await Bot.objects.aupdate(rate_limit_per_user_per_minute=1)
    body = {"model": "helper", "messages": HELLO, "stream": True}

    first = await post(chat_key, body)
    async for _ in first.streaming_content:
        pass
    second = await post(chat_key, body)

    assert (first.status_code, second.status_code) == (200, 429)
    assert error_of(second)["code"] == "rate_limit_exceeded"
