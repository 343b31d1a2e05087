"""A broken tool call is tried once more, above a remote service and a local model alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from inference import correcting
from inference.base import ChatMessage, Delta, GenRequest, Result, SamplingParams, Usage
from inference.engines.local.answer import AnswerWriter
from inference.engines.local.engine import LocalEngine
from inference.engines.openai import OpenAIEngine, OpenAIReply
from inference.engines.tool_schema import misfits
from inference.errors import FILTERED, QueueFull, ShuttingDown
from tests.inference.engines.conftest import make_tokenizer
from tests.servers.model_service import Script

ids = (f"corrected-{n}" for n in itertools.count())
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
GOOD = '<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>'
CUT_OFF = '<tool_call>{"name": "weather", "arguments": {</tool_call>'
NOT_OFFERED = "the model called a tool that was not offered: forecast"
UNKNOWN = GOOD.replace("weather", "forecast")
MISFIT = GOOD.replace('"Bonn"', '"Bonn", "days": "two"')
SENT_CUT_OFF = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"city'}}]}


def ask(**values: object) -> GenRequest:
    sampling = SamplingParams(max_new_tokens=100)
    message = ChatMessage("user", "Will it rain?")
    return replace(GenRequest(next(ids), (message,), sampling, tools=(WEATHER,)), **values)


def calls_of(result: Result) -> list[tuple[str, object]]:
    assert [call.problem for call in result.tool_calls] == [""] * len(result.tool_calls)
    return [(call.name, json.loads(call.arguments)) for call in result.tool_calls]


# -- a remote service --


@pytest.fixture
def remote(service, http) -> Iterator[OpenAIEngine]:
    engine = OpenAIEngine(service.base_url, "m", service.api_key, http)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (UNKNOWN, NOT_OFFERED),
        (MISFIT, "`days` must be of the type integer"),
        (GOOD.replace('{"city": "Bonn"}', "{}"), "`city` is missing"),
    ],
)
def test_a_wrong_call_is_answered_by_its_fault_and_made_again(remote, service, broken, fault):
    service.script(Script(["I look. ", broken]), Script(["Again: ", GOOD]))
    request = ask(tool_choice="required")

    deltas = list(correcting.submit(remote, request))

    assert "".join(delta.text for delta in deltas) == "I look. \n\nAgain: "
    assert [(delta.call.name, delta.call.arguments) for delta in deltas if delta.call] == [
        ("weather", '{"city": "Bonn"}')
    ]
    assert [delta.finish for delta in deltas if delta.finish] == ["tool_calls"]
    first, second = (asked.body for asked in service.requests)
    question, called, told = second["messages"]
    assert question == first["messages"][0]
    assert (called["role"], called["content"].strip(), len(called["tool_calls"])) == ("assistant", "I look.", 1)
    assert (told["role"], told["tool_call_id"]) == ("tool", called["tool_calls"][0]["id"])
    assert fault in told["content"]
    assert "These tools can be called: weather." in told["content"]
    assert [second[name] for name in ("tools", "tool_choice")] == [first[name] for name in ("tools", "tool_choice")]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (["I look. ", CUT_OFF], 'I look.\n{"name": "weather", "arguments": {'),
        ([SENT_CUT_OFF], 'weather {"city'),
        (["<tool_call></tool_call>"], "(an empty tool call)"),
        ([GOOD, CUT_OFF], '{"name": "weather", "arguments": {"city": "Bonn"}}\n{"name": "weather", "arguments": {'),
        ([UNKNOWN.replace("forecast", "天气")], '{"name": "天气", "arguments": {"city": "Bonn"}}'),
    ],
)
def test_a_call_that_no_prompt_can_hold_is_told_in_words(remote, service, broken, said):
    service.script(Script(broken), Script([GOOD]))

    result = correcting.submit(remote, ask()).result()

    assert calls_of(result) == [("weather", {"city": "Bonn"})]
    _question, written, told = service.requests[1].body["messages"]
    assert written == {"role": "assistant", "content": said}
    assert told["role"] == "user"
    assert told["content"].startswith("No tool was called: ")


def test_a_good_call_beside_a_wrong_one_is_made_again_too(remote, service):
    service.script(Script([GOOD, UNKNOWN]), Script([GOOD]))

    assert calls_of(correcting.submit(remote, ask()).result()) == [("weather", {"city": "Bonn"})]
    good, wrong = (turn["content"] for turn in service.requests[1].body["messages"][2:])
    assert good.startswith("Not called, because another call beside it was wrong")
    assert wrong.startswith("Error, not called: the model called a tool that was not offered")


def test_both_tries_count_and_share_the_limit(remote, service):
    service.script(Script([CUT_OFF], usage={"prompt_tokens": 11, "completion_tokens": 30}), Script([GOOD]))

    result = correcting.submit(remote, ask()).result()

    assert result.usage == Usage(22, 37)
    assert [asked.body["max_tokens"] for asked in service.requests] == [100, 70]


@pytest.mark.parametrize(
    ("first", "values"),
    [
        (Script([GOOD]), {}),
        (Script(["It rains."]), {}),
        (Script([CUT_OFF], finish="length"), {}),
        (Script([CUT_OFF], usage={"prompt_tokens": 11, "completion_tokens": 100}), {}),
        (Script([CUT_OFF]), {"tools": ()}),
        (Script([CUT_OFF]), {"tool_choice": "none"}),
    ],
    ids=["good", "words", "length", "no room", "no tools", "none wanted"],
)
def test_nothing_else_is_asked_again(remote, service, first, values):
    service.script(first, Script([GOOD]))

    result = correcting.submit(remote, ask(**values)).result()

    assert len(service.requests) == 1
    assert [call.problem for call in result.tool_calls if "asked again" in call.problem] == []


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (Script([CUT_OFF]), "the model wrote a tool call that cannot be read: its JSON is broken or breaks off"),
        (Script(status=400, body='{"error": "no such role"}'), "the service refused the request: no such role"),
        (Script(["It"], finish="length"), "length"),
    ],
)
def test_a_second_try_that_comes_to_nothing_is_the_last(remote, service, second, why):
    service.script(Script([UNKNOWN]), second, Script([GOOD]))

    result = correcting.submit(remote, ask()).result()

    assert (result.finish, result.error, len(service.requests)) == ("tool_calls", "", 2)
    assert [call.problem for call in result.tool_calls] == [f"{NOT_OFFERED}; asked again: {why}"]


def test_a_call_that_only_does_not_fit_is_not_lost(remote, service):
    service.script(Script([MISFIT]), Script([CUT_OFF]))

    result = correcting.submit(remote, ask()).result()

    assert calls_of(result) == [("weather", {"city": "Bonn", "days": "two"})]


def test_what_the_services_filter_stops_is_told_as_that(remote, service):
    """Another model would be asked else, and be a way round it."""
    service.script(Script([UNKNOWN]), Script(["It"], finish="content_filter"))

    result = correcting.submit(remote, ask()).result()

    assert (result.finish, result.error, result.tool_calls) == ("error", FILTERED, ())


def test_the_second_try_is_cancelled_like_the_first(remote, service):
    service.script(Script([CUT_OFF]), Script(["I ", "look."], stall_after=1))
    reply = correcting.submit(remote, ask())

    next(delta for delta in reply if delta.text)
    reply.cancel()

    result = reply.result()

    assert (result.text, result.finish, result.tool_calls) == ("I ", "cancelled", ())
    assert service.requests[1].left.wait(5), "the service goes on writing"


class TakesOne(OpenAIEngine):
    """Does something before its second request, or refuses it."""

    refusal: Exception | None = None

    def submit(self, request: GenRequest) -> OpenAIReply:
        self.asked = request
        if request.id.endswith(".again"):
            self.meanwhile()
            if self.refusal:
                raise self.refusal
        return super().submit(request)

    def meanwhile(self) -> None: ...


@pytest.mark.parametrize(
    ("refusal", "finish", "problems"),
    [
        (QueueFull("all is busy"), "tool_calls", [f"{NOT_OFFERED}; asked again: all is busy"]),
        (ShuttingDown("bye"), "shutdown", []),
    ],
)
def test_an_engine_that_takes_no_second_try_ends_the_first(service, http, refusal, finish, problems):
    service.script(Script([UNKNOWN]))
    engine = TakesOne(service.base_url, "m", service.api_key, http)
    engine.refusal = refusal

    result = correcting.submit(engine, ask()).result()

    assert (result.finish, [call.problem for call in result.tool_calls]) == (finish, problems)
    assert result.usage == Usage(11, 7)


def test_cancelling_between_the_tries_ends_the_second(service, http):
    service.script(Script([UNKNOWN]), Script(["Good."], wait_s=30))
    engine = TakesOne(service.base_url, "m", service.api_key, http)
    reply = correcting.submit(engine, ask())
    engine.meanwhile = reply.cancel

    assert reply.result().finish == "cancelled"


def test_the_second_try_has_the_time_that_the_first_one_left(service, http):
    service.script(Script([UNKNOWN], wait_s=0.1), Script([GOOD]))
    engine = TakesOne(service.base_url, "m", service.api_key, http)

    correcting.submit(engine, ask(deadline_s=60.0)).result()

    assert len(service.requests) == 2
    assert 0 < engine.asked.deadline_s <= 59.9


# -- a local model --

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }}]{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


class Reciting(LocalEngine):
    """The engine as it is, but each answer's tokens are those of the next text."""

    def recite(self, *texts: str) -> None:
        self.texts, self.prompts = list(texts), []

    def _writer(self, request, prompt):
        tokenizer = self._loaded.tokenizer
        self.prompts.append(tokenizer.decode(prompt.ids))
        tokens = [*tokenizer.encode(self.texts.pop(0)), tokenizer.eos_token_id]
        return Recited(tokens, tokenizer.backend_tokenizer, frozenset([tokenizer.eos_token_id]), tools=request.tools)


class Recited(AnswerWriter):
    def __init__(self, tokens: list[int], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._given = iter(tokens)

    def feed(self, token: int) -> Iterator[Delta]:
        return super().feed(next(self._given))


@pytest.fixture
def local(loaded) -> Iterator[Reciting]:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    engine = Reciting(replace(loaded, tokenizer=tokenizer, end_ids=frozenset()), torch_threads=1)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (UNKNOWN, f"assistant\nSo: [forecast]<|im_end|>\n<|im_start|>tool\nError, not called: {NOT_OFFERED}. "),
        (
            CUT_OFF,
            'assistant\nSo:\n{"name": "weather", "arguments": {<|im_end|>\n<|im_start|>user\nNo tool was called: ',
        ),
    ],
)
def test_a_local_model_reads_its_fault_through_its_template(local, broken, told):
    local.recite(f"So: {broken}", GOOD)

    result = correcting.submit(local, ask(sampling=SamplingParams(max_new_tokens=400))).result()

    assert (result.text, result.finish) == ("So: ", "tool_calls")
    assert calls_of(result) == [("weather", {"city": "Bonn"})]
    assert told in local.prompts[1]
    assert result.usage.prompt_tokens > len(make_tokenizer().encode(local.prompts[1]))


def test_a_local_model_shares_its_tokens_between_both_tries(local):
    local.recite(CUT_OFF, GOOD)
    room = len(make_tokenizer().encode(CUT_OFF)) + 6

    result = correcting.submit(local, ask(sampling=SamplingParams(max_new_tokens=room))).result()

    assert result.usage.completion_tokens == room
    assert result.tool_calls[0].problem.endswith("breaks off; asked again: length")


# -- arguments and schemas --


@pytest.mark.parametrize(
    ("value", "schema", "wrong"),
    [
        ({"city": "Bonn", "days": 2}, SCHEMA, []),
        ({"days": 2.0}, SCHEMA, ["`city` is missing"]),
        (
            {"city": 1, "days": True},
            SCHEMA,
            ["`city` must be of the type string", "`days` must be of the type integer"],
        ),
        ({"city": "x", "when": "now"}, SCHEMA, ["`when` does not exist"]),
        ({"a": None}, {"properties": {"a": {"type": ["string", "null"]}}}, []),
        ({"a": "z"}, {"properties": {"a": {"enum": ["x", "y"]}}}, ['`a` must be one of ["x", "y"]']),
        ({"a": True}, {"properties": {"a": {"const": 1}}}, ["`a` must be one of [1]"]),
        (
            {"a": [{"b": 1}, {"b": "x"}]},
            {"properties": {"a": {"items": {"properties": {"b": {"type": "number"}}}}}},
            ["`a[1].b` must be of the type number"],
        ),
        ({"a": 1}, {"type": "array"}, ["the whole of the arguments must be of the type array"]),
        ({"a": 1}, {"type": 5, "properties": [], "required": "a", "enum": 7, "items": 1}, []),
        ({"a": "x" * 40}, {"properties": {"a": {"pattern": "(x+x+)+y", "$ref": "#", "type": ["string", "what"]}}}, []),
    ],
)
def test_arguments_are_held_against_the_schema(value, schema, wrong):
    assert list(misfits(value, schema)) == wrong


def test_what_is_nested_deeper_than_anybody_means_is_not_followed():
    value: Any = 1
    schema: Any = {"type": "string"}
    for _ in range(200):
        value, schema = [value], {"items": schema}

    assert list(misfits(value, schema)) == []
