"""``bots/<slug>/messages/``: asking, going on, streaming, leaving."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from django.test import AsyncClient
from django.utils import timezone

from bots import intake
from bots.errors import NotStored
from bots.models import Bot, Message
from tests.servers.model_service import Script

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/api/v1/bots/helper/messages/"


async def streamed(key: str, text: str = "Hello", **body: object) -> list[dict[str, object]]:
    """The objects of a streamed answer."""
    response = await begun(key, text, **body)
    whole = b"".join([part async for part in response.streaming_content]).decode()
    return [json.loads(line[5:]) for line in whole.splitlines() if line.startswith("data:")]


async def begun(key: str, text: str = "Hello", **body: object):
    headers = {"Authorization": f"Api-Key {key}", "Accept": "text/event-stream"}
    body = {"text": text, "stream": True, **body}
    response = await AsyncClient().post(PATH, body, content_type="application/json", headers=headers)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/event-stream")
    return response


def test_a_question_is_answered(rest, bot, worker):
    response = rest.post(PATH, {"text": "Hello 你好", "user": "u-1"})

    answer = response.json()
    question = Message.objects.get(role="user")
    reply = question.replies.get()
    assert response.status_code == 200
    assert answer == {
        "id": str(reply.pk),
        "message_id": str(question.pk),
        "conversation": str(question.conversation_id),
        "status": "delivered",
        "text": "echo: Hello 你好",
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }
    assert reply.completion_tokens > 0
    assert question.sender_id.endswith("/u-1")
    found = rest.get("/api/v1/conversations/?user=u-1").json()["results"]
    assert [row["id"] for row in found] == [answer["conversation"]]


def test_a_conversation_goes_on(rest, remote_bot, service, worker):
    first = rest.post(PATH, {"text": "one"}).json()
    second = rest.post(PATH, {"text": "two", "conversation": first["conversation"]}).json()
    rest.post(PATH, {"text": "three"})

    assert second["conversation"] == first["conversation"]
    asked = [[m["content"] for m in request.body["messages"]] for request in service.requests]
    assert asked == [["one"], ["one", "echo: one", "two"], ["three"]]


def test_a_conversation_of_another_caller_is_not_found(rest, client_with, bot, worker):
    mine = rest.post(PATH, {"text": "one", "user": "u-1"}).json()["conversation"]
    other = client_with("chat", name="another")

    for client, body in [
        (other, {"conversation": mine}),
        (other, {"conversation": mine, "user": "u-1"}),
        (rest, {"conversation": mine, "user": "u-2"}),
        (rest, {"conversation": str(uuid.uuid4())}),
    ]:
        assert client.post(PATH, {"text": "two", **body}).status_code == 404
    assert rest.post(PATH, {"text": "two", "conversation": mine, "user": "u-1"}).status_code == 200


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": " \n"}, {"text": "x", "user": "u" * 101}, {"text": {}}])
def test_a_bad_question_is_refused(rest, bot, body):
    assert rest.post(PATH, body).status_code == 400
    assert Message.objects.count() == 0


def test_a_question_that_is_too_large_is_refused(rest, bot):
    assert rest.post(PATH, {"text": "x" * 1_100_000}).status_code == 413


@pytest.mark.rule("W4")
def test_json_that_is_nested_too_deeply_is_refused(rest, bot):
    for text in ("[" * 200_000, '{"text":' + "[" * 64 + "]" * 64 + "}", '{"a":' * 500 + "1" + "}" * 500):
        answer = rest.post(PATH, text, content_type="application/json")
        assert (answer.status_code, answer.data["error"]["message"]) == (400, "The JSON is nested too deeply.")
    fields = rest.post(PATH, '{"text":' + "[" * 63 + "]" * 63 + "}", content_type="application/json").data["error"]
    assert "fields" in fields, "as deep as it may be, it is judged by what it says"


def test_asking_needs_its_scope(client_with, bot):
    assert client_with("bots:read", "messages:write").post(PATH, {"text": "x"}).status_code == 403


def test_a_disabled_bot_is_not_found(rest, bot):
    Bot.objects.update(is_enabled=False)

    assert rest.post(PATH, {"text": "x"}).status_code == 404


def test_a_failing_model_is_a_502_with_the_polite_words(rest, remote_bot, service, worker):
    service.script(Script(status=401, body="inner words 10.0.0.1"))

    response = rest.post(PATH, {"text": "x"})

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (502, "model_failed")
    assert error["message"] == Message.objects.get(role="assistant").text
    assert "inner words" not in response.content.decode()


def test_who_asks_too_fast_is_told_so(rest, bot, worker):
    Bot.objects.update(rate_limit_per_user_per_minute=1)

    answers = [rest.post(PATH, {"text": "x", "user": user}) for user in ("a", "a", "b")]

    assert [a.status_code for a in answers] == [200, 429, 200]
    assert answers[1].json()["error"]["code"] == "rate_limited"


def test_a_question_that_cannot_be_stored_is_a_503(rest, bot, monkeypatch):
    def full(item: object) -> object:
        raise NotStored

    monkeypatch.setattr(intake, "accept", full)

    assert rest.post(PATH, {"text": "x"}).status_code == 503


# -- streams --


async def test_a_stream_tells_what_the_websocket_tells(chat_key, bot, worker):
    accepted, *deltas, done = await streamed(chat_key, "one two three")

    assert accepted["type"] == "accepted"
    assert {d["type"] for d in deltas} == {"delta"}
    assert "".join(d["text"] for d in deltas) == done["text"] == "echo: one two three"
    assert (done["type"], done["message_id"]) == ("done", accepted["message_id"])
    assert done["usage"]["completion_tokens"] > 0


async def test_a_stream_comes_as_it_is_written(chat_key, remote_bot, service, worker):
    service.script(Script(["one ", "two ", "three"], piece_s=0.2))

    _accepted, *deltas, done = await streamed(chat_key)

    assert [d["text"] for d in deltas] == ["one ", "two ", "three"]
    assert done["text"] == "one two three"


async def test_a_failure_ends_a_stream_with_an_error_and_no_apology_before_it(chat_key, remote_bot, service, worker):
    service.script(Script(status=401))

    accepted, error = await streamed(chat_key)

    assert (error["type"], error["code"], error["message_id"]) == ("error", "model_failed", accepted["message_id"])


async def test_a_caller_who_leaves_a_stream_stops_the_model(chat_key, remote_bot, service, worker):
    service.script(Script(["piece "] * 200, piece_s=0.05))
    response = await begun(chat_key)
    parts = response.streaming_content.__aiter__()

    for _ in range(3):
        await anext(parts)
    await asyncio.to_thread(response.close)  # as Django's ASGI handler does when a client has left

    message = await Message.objects.aget(role="user")
    for _ in range(100):
        await message.arefresh_from_db()
        if message.status == "cancelled":
            break
        await asyncio.sleep(0.05)
    assert message.status == "cancelled"
    assert message.cancel_requested_at < timezone.now()
    assert service.requests[0].left.wait(5)
