"""``/v1/chat/completions`` with tools: the caller's to call, the bot's never."""

from __future__ import annotations

import json

import openai
import pytest

from bots.models import Message, WordList
from monitoring.models import AuditLog
from tests.bots.api.test_openai import HELLO, chat, error_of, sdk
from tests.servers.model_service import Script

pytestmark = pytest.mark.django_db(transaction=True)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
NAMED = {"type": "function", "function": {"name": "weather"}}
NO_JSON = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "["}}
DEEP = {"id": "1", "type": "function", "function": {"name": "a", "arguments": '{"a": %s}' % ("[" * 99 + "]" * 99)}}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
MARKUP = '<tool_call>{"name": "weather", "arguments": {"city": "北京"}}</tool_call>'
SENT = Script(["I look.", {"tool_calls": [CALL]}, {"tool_calls": [{"index": 0, "function": {"arguments": '"北京"}'}}]}])
WRITTEN = Script([f"I look. {MARKUP[:30]}", MARKUP[30:]])


@pytest.mark.parametrize("script", [SENT, WRITTEN], ids=["sent", "written"])
async def test_the_official_client_gets_a_call_and_sends_its_result(chat_key, remote_bot, service, worker, script):
    service.script(script, Script(["It rains."]))
    async with sdk(chat_key) as client:
        first = await client.chat.completions.create(
            model="helper", messages=HELLO, tools=[WEATHER], tool_choice="required"
        )
        choice = first.choices[0]
        (call,) = choice.message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        second = await client.chat.completions.create(
            model="helper", messages=[*HELLO, choice.message.model_dump(exclude_none=True), result], tools=[WEATHER]
        )

    assert (choice.finish_reason, choice.message.content.strip()) == ("tool_calls", "I look.")
    assert (call.type, call.function.name, call.function.arguments) == ("function", "weather", '{"city": "北京"}')
    assert second.choices[0].message.content == "It rains."
    asked, again = (request.body for request in service.requests)
    assert (asked["tools"], asked["tool_choice"]) == ([WEATHER], "required")
    assert again["messages"][-2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "北京"}'}
    assert again["messages"][-1] == result
    assert await AuditLog.objects.filter(action="tool.refused").acount() == 0


async def test_a_stream_ends_with_the_call(chat_key, remote_bot, service, worker):
    service.script(WRITTEN)
    async with sdk(chat_key) as client:
        stream = await client.chat.completions.create(model="helper", messages=HELLO, tools=[WEATHER], stream=True)
        choices = [chunk.choices[0] async for chunk in stream]

    assert "".join(choice.delta.content or "" for choice in choices) == "I look. "
    calls = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert [(c.index, c.function.name, c.function.arguments) for c in calls] == [(0, "weather", '{"city": "北京"}')]
    assert choices[-1].finish_reason == "tool_calls"


def test_a_call_without_words_has_no_content(caller, remote_bot, service, worker):
    service.script(Script([MARKUP]))

    message = chat(caller, tools=[WEATHER]).json()["choices"][0]["message"]

    assert message["content"] is None
    assert len(message["tool_calls"]) == 1


@pytest.mark.rule("L7")
@pytest.mark.parametrize("offer", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_a_call_that_nobody_may_do_is_refused(caller, remote_bot, service, worker, offer):
    service.script(WRITTEN)

    choice = chat(caller, **offer).json()["choices"][0]

    assert (choice["message"]["content"].strip(), choice["finish_reason"]) == ("I look.", "stop")
    assert "tool_calls" not in choice["message"]
    assert AuditLog.objects.filter(action="tool.refused").count() == 1


@pytest.mark.parametrize(
    "markup", [MARKUP[:-20], MARKUP.replace("weather", "other"), "<tool_call>weather?</tool_call>"]
)
async def test_a_call_that_cannot_be_passed_on_is_an_error_with_a_reason(chat_key, remote_bot, service, worker, markup):
    service.script(Script([markup]))

    async with sdk(chat_key) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model="helper", messages=HELLO, tools=[WEATHER])

    assert failed.value.code == "model_failed"
    error = (await Message.objects.aget(role="user")).error
    assert ("tool" in error, "asked again" in error, len(service.requests)) == (True, True, 2)


@pytest.mark.parametrize("broken", [MARKUP.replace("weather", "other"), MARKUP[:-20], MARKUP.replace('"北京"', "7")])
def test_a_broken_call_is_made_again(caller, remote_bot, service, worker, broken):
    service.script(Script([f"I look. {broken}"]), Script([MARKUP]))

    answer = chat(caller, tools=[WEATHER]).json()

    message = answer["choices"][0]["message"]
    assert message["content"].strip() == "I look."
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"city": "北京"}']
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (22, 14)
    reply = Message.objects.get(role="assistant")
    assert (reply.prompt_tokens, reply.completion_tokens) == (22, 14)


async def test_a_stream_goes_on_with_what_the_second_try_writes(chat_key, remote_bot, service, worker):
    service.script(Script(["I look. ", MARKUP[:-20]], piece_s=0.05), Script(["Once more.", MARKUP]))
    asked = {"messages": HELLO, "tools": [WEATHER], "stream": True, "stream_options": {"include_usage": True}}
    async with sdk(chat_key) as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(model="helper", **asked)]

    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "I look. \n\nOnce more."
    calls = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [("weather", '{"city": "北京"}')]
    assert choices[-1].finish_reason == "tool_calls"
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (22, 14)


def test_what_a_word_list_blocks_is_in_no_call(caller, remote_bot, service, worker):
    WordList.objects.create(name="places", text="北京", action="block").bots.add(remote_bot)
    service.script(Script([MARKUP]))

    choice = chat(caller, tools=[WEATHER]).json()["choices"][0]

    assert choice["finish_reason"] == "content_filter"
    assert "tool_calls" not in choice["message"]


def test_a_call_that_a_mask_would_make_unreadable_is_filtered(caller, remote_bot, service, worker):
    WordList.objects.create(name="numbers", text="/\\d{11}/", action="mask").bots.add(remote_bot)
    number = '{"name": "weather", "arguments": {"city": %s}}'
    told = [number % '"13812345678"', number % "13812345678"]  # the second is a number, and stars are none
    service.script(*(Script([f"<tool_call>{one}</tool_call>"]) for one in told))

    choices = [chat(caller, tools=[WEATHER]).json()["choices"][0] for _ in told]

    assert [choice["finish_reason"] for choice in choices] == ["tool_calls", "content_filter"]
    (call,) = choices[0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "＊" * 11}
    assert "tool_calls" not in choices[1]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces please"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "description": "x" * 300_000}}]}, "tools"),
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tools": [WEATHER], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
        ({"messages": [*HELLO, {"role": "tool", "content": "rain"}]}, "messages.1"),
        ({"messages": [{**HELLO[0], "tool_calls": [{"id": "1", **NAMED}]}]}, "messages.0"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [NO_JSON]}]}, "messages.1.tool_calls"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [DEEP]}]}, "messages.1.tool_calls"),
    ],
)
def test_a_bad_tool_names_its_parameter(caller, bot, body, param):
    response = chat(caller, **body)

    assert response.status_code == 400
    assert str(error_of(response)["param"]).startswith(param)
    assert Message.objects.count() == 0
