"""Tool calls in every family's markup: read, never shown, wherever the text is cut."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.base import ToolCall
from inference.engines.tool_splitter import SentCalls, ToolSplitter

SCHEMA = {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = (
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now"}},
)
WEATHER = ("weather", {"city": "北京", "days": 2})
OBJECT = '{"name": "weather", "arguments": {"city": "北京", "days": 2}}'
LLAMA = '{"name": "weather", "parameters": {"city": "北京", "days": 2}}'
ARGUMENTS = '{"city": "北京", "days": 2}'

MARKUP = {
    "hermes": f"<tool_call>\n{OBJECT}\n</tool_call>",
    "hermes, fenced": f"<tool_call>\n```json\n{OBJECT}\n```\n</tool_call>",
    "hermes, a list": f"<tool_call>[{OBJECT}]</tool_call>",
    "hermes, not closed": f"<tool_call>{OBJECT}",
    "hermes, arguments as text": f"<tool_call>{json.dumps({'name': 'weather', 'arguments': ARGUMENTS})}</tool_call>",
    "qwen coder": (
        "<tool_call>\n<function=weather>\n<parameter=city>\n北京\n</parameter>\n"
        "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"
    ),
    "qwen coder, beginning forgotten": (
        "<function=weather><parameter=city>北京</parameter><parameter=days>2</parameter></function>\n</tool_call>"
    ),
    "glm": (
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
    ),
    "llama 3": f"<|python_tag|>{LLAMA}",
    "llama 3, custom": f"<function=weather>{ARGUMENTS}</function>",
    "mistral": f"[TOOL_CALLS] [{OBJECT}]",
    "mistral, names": f"[TOOL_CALLS]weather{ARGUMENTS}",
    "mistral, newest": f"[TOOL_CALLS]weather[CALL_ID]abc123def[ARGS]{ARGUMENTS}",
    "deepseek": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{ARGUMENTS}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek 3.1": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{ARGUMENTS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
}
PROSE = ["", "Let me look. ", "a < b and [1] "]


def split(pieces, tools=TOOLS) -> tuple[str, list[ToolCall]]:
    splitter = ToolSplitter(tools)
    found = [piece for text in pieces for piece in splitter.feed(text)] + splitter.close()
    calls = [piece for piece in found if isinstance(piece, ToolCall)]
    return "".join(piece for piece in found if isinstance(piece, str)), calls


def values(calls: list[ToolCall]) -> list[tuple[str, object]]:
    assert [call.problem for call in calls] == [""] * len(calls)
    return [(call.name, json.loads(call.arguments)) for call in calls]


@pytest.mark.parametrize("family", MARKUP)
def test_a_call_is_read_wherever_the_text_is_cut(family):
    prose = "a < b and [1] "
    text = prose + MARKUP[family]
    for at in range(len(text) + 1):
        shown, calls = split([text[:at], text[at:]])
        assert (shown, values(calls)) == (prose, [WEATHER]), text[:at]
    assert values(split(list(text))[1]) == [WEATHER]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_cutting_changes_what_is_read(data):
    """Also of broken markup, and of several calls with text between them."""
    bits = [*MARKUP.values(), *PROSE, "<tool_call>", "</tool_call>", "`<tool_call>` ", '{"a": "', "[TOOL", "<think"]
    text = "".join(data.draw(st.lists(st.sampled_from(bits), max_size=5)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def told(found):
        return found[0], [(call.name, call.arguments, call.problem) for call in found[1]]

    assert told(split(pieces)) == told(split([text]))


@settings(max_examples=40, deadline=None)
@given(st.text(), st.sampled_from(sorted(set(MARKUP) - {"qwen coder, beginning forgotten"})), st.integers(min_value=1))
def test_markup_that_breaks_off_is_never_shown(prose, family, size):
    markup = MARKUP[family]
    cut = markup[: max(len(markup.split(">")[0]) + 1, size % len(markup))]
    if family.startswith("mistral"):
        cut = markup[: max(len("[TOOL_CALLS]"), size % len(markup))]

    shown, calls = split([f"{prose}. ", cut])

    assert shown == f"{prose}. "
    assert all(call.problem for call in calls) or values(calls) == [WEATHER]


@pytest.mark.parametrize(
    ("markup", "reason"),
    [
        ('<tool_call>{"name": "weather", "arguments": {</tool_call>', "broken or breaks off"),
        ("<tool_call>the weather please</tool_call>", "not JSON"),
        ("<tool_call></tool_call>", "not JSON, or breaks off"),
        ("<tool_call>now", "breaks off"),
        ('<tool_call>{"arguments": {}}</tool_call>', "names no tool"),
        ('<tool_call>{"name": "weather", "arguments": [1]}</tool_call>', "not a JSON object"),
        ('<tool_call>{"name": "weather", "arguments": {"days": NaN}}</tool_call>', "broken or breaks off"),
        ('<|python_tag|>weather.call(city="x")', "broken or breaks off"),
        ("[TOOL_CALLS]", "empty"),
        ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather", "breaks off"),
        ("<function=weather><parameter=city>Ber", "breaks off"),
        ('<tool_call>{"name": "delete_all", "arguments": {}}</tool_call>', "not offered: delete_all"),
        ('<tool_call>{"name": "weather", "arguments": ' + "[" * 100_000, "broken or breaks off"),
    ],
)
def test_what_cannot_be_read_says_why_and_is_not_shown(markup, reason):
    shown, calls = split([f"So: {markup}"])

    assert shown == "So: "
    assert len(calls) == 1
    assert reason in calls[0].problem


@pytest.mark.parametrize("text", [
    "write `<tool_call>` around it", "1 <tool", "[TOOL_CALL", "a < b > c [d] `[TOOL_CALLS]`", "<tool_calling>",
])  # fmt: skip
def test_what_only_looks_like_markup_is_text(text):
    assert split(list(text)) == (text, [])


@pytest.mark.parametrize("text", [
    "<tool_call>```" + "\n" * 20_000 + "x</tool_call>",
    "<tool_call>weather" + " " * 20_000 + "!</tool_call>",
    "<tool_call>weather" + "<arg_key>" * 10_000 + "</arg_value></tool_call>",
    "[TOOL_CALLS]" + " " * 20_000 + "x",
    '<tool_call>{"name": "' + "</tool_call>" * 4_000,
], ids=["fence", "name", "keys", "blanks", "closings"])  # fmt: skip
def test_nothing_that_a_model_writes_holds_the_process_up(text):
    began_s = time.process_time()
    shown, calls = split(text[at : at + 500] for at in range(0, len(text), 500))

    assert time.process_time() - began_s < 1
    assert (shown, [call.problem != "" for call in calls]) == ("", [True])


def test_a_closing_tag_inside_a_string_ends_nothing():
    told = {"city": 'say "</tool_call>"', "days": 1}

    shown, calls = split(list(f"<tool_call>{json.dumps({'name': 'weather', 'arguments': told})}</tool_call> Done."))

    assert (shown, values(calls)) == ("Done.", [("weather", told)])


def test_several_calls_and_text_around_them():
    text = f"First.\n{MARKUP['hermes']}\n{MARKUP['glm']}\n\nThen."

    assert (split(list(text))[0], values(split(list(text))[1])) == ("First.\nThen.", [WEATHER, WEATHER])


def test_values_in_plain_text_have_the_type_that_the_schema_says():
    markup = "<function=weather><parameter=city>007</parameter><parameter=days>7</parameter></function>"

    assert values(split([markup])[1]) == [("weather", {"city": "007", "days": 7})]


@pytest.mark.parametrize(
    "schema", [{"properties": {"days": True}}, {"properties": ["days"]}, {"properties": {"days": []}}]
)
def test_a_schema_that_says_nothing_of_a_value_leaves_it_as_json(schema):
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    markup = "<function=weather><parameter=days>7</parameter></function>"

    assert values(split([markup], (tool,))[1]) == [("weather", {"days": 7})]


def test_bare_json_is_a_call_only_of_a_tool_that_was_offered():
    other = '{"name": "Müller", "age": 5}'

    assert values(split(list(LLAMA))[1]) == [WEATHER]
    assert values(split(list(f"{LLAMA}; {LLAMA}"))[1]) == [WEATHER, WEATHER]
    assert split(list(other)) == (other, [])
    assert split(list(LLAMA), tools=()) == (LLAMA, [])
    assert ToolSplitter().feed('{"a"') == ['{"a"'], "without tools nothing waits"


def test_calls_that_a_service_sends_whole_and_all_with_one_index_are_told_apart_by_their_ids():
    """As some services do."""
    sent = SentCalls()
    for piece in [(0, "a", "weather", "{}"), (0, "b", "weather", '{"city": "x"}'), (0, "b", "", "")]:
        sent.add(*piece)

    assert [(call.id, call.arguments) for call in sent.whole()] == [("a", "{}"), ("b", '{"city": "x"}')]


def test_calls_sent_in_pieces_are_put_together():
    sent = SentCalls()
    for piece in [(0, "a", "weather", ""), (1, "b", "now", ""), (0, "", "", '{"city":'), (0, "", "", ' "x"}')]:
        sent.add(*piece)
    for piece in [(None, "", "weather", "{}"), (None, "", "now", ""), (2, "c", "now", "{"), (3, "d", "", "{}")]:
        sent.add(*piece)

    whole = sent.whole()

    assert [(call.id, call.name, json.loads(call.arguments)) for call in whole[:4]] == [
        ("a", "weather", {"city": "x"}), ("b", "now", {}), ("", "weather", {}), ("", "now", {})
    ]  # fmt: skip
    assert "broken or breaks off" in whole[4].problem
    assert "names no tool" in whole[5].problem
