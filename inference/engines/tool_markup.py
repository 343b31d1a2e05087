"""How families of models write a tool call into their text, read into ToolCalls. Pure.

Each family is where its markup begins and ends, and who reads what stands between. What cannot be read becomes a call
with a ``problem``: nothing of it is shown to a person, and nothing of its text is in the reason. Formats as the chat
templates of the models have them: Hermes, Qwen, GLM (``<tool_call>``), Llama 3, Mistral, DeepSeek.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inference.base import ToolCall
from inference.text import well_formed

Parameters = Mapping[str, Mapping[str, Any]]  # of each function by its name: a JSON schema
Reader = Callable[[str, Parameters], list[ToolCall]]

_BLANK = re.compile(r"[\s;,]*")
_NAME = r"[^\s<>{}\[\]\"'`]{1,200}"
# White space is taken for good (*+): tried again and again, it would hold up the whole process for minutes.
_FUNCTION = re.compile(rf"\s*+<function=({_NAME})>(.*?)</function>\s*+\Z", re.S)
_PARAMETER = re.compile(rf"<parameter=({_NAME})>(.*?)(?=</parameter>|<parameter=|\Z)", re.S)
_GLM = re.compile(rf"\s*+({_NAME})\s*+((?:<arg_key>.*</arg_value>)?+)\s*+\Z", re.S)
_PAIR = re.compile(r"<arg_key>([^<]*)</arg_key>\s*+<arg_value>(.*?)</arg_value>", re.S)
_MISTRAL = re.compile(rf"\s*+(?:\[TOOL_CALLS\]\s*+)?((?:{_NAME})?)(?:\[CALL_ID\](\w+))?(?:\[ARGS\])?\s*+(?={{)")
_DEEPSEEK = re.compile(r"<｜tool▁call▁begin｜>(.*?)(?=<｜tool▁call▁end｜>|<｜tool▁call▁begin｜>|\Z)", re.S)


class Unreadable(Exception):
    """This is no tool call. The text says why, without the model's words."""


@dataclass(frozen=True, slots=True)
class Family:
    """``closing`` is empty where the calls go on to the end of the answer."""

    opening: str
    closing: str
    read: Reader


def unreadable(why: str, written: str) -> ToolCall:
    return ToolCall("", problem=f"the model wrote a tool call that cannot be read: {why}", written=written.strip())


def _whole(reader: Callable[[str, Parameters], Iterator[ToolCall]]) -> Reader:
    """All the calls, or one that says why there are none."""

    def read(body: str, parameters: Parameters) -> list[ToolCall]:
        try:
            return list(reader(body, parameters)) or [unreadable("it is empty", body)]
        except Unreadable as error:
            return [unreadable(str(error), body)]

    return read


def json_calls(body: str, parameters: Parameters) -> Iterator[ToolCall]:
    """Objects with a name and arguments, one after the other or in a list. Raises Unreadable."""
    at = _past_blanks(body, 0)
    while at < len(body):
        value, at = _json_value(body, at)
        for call in value if isinstance(value, list) else [value]:
            yield _call_of(call)
        at = _past_blanks(body, at)


def _past_blanks(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _tagged(body: str, parameters: Parameters) -> Iterator[ToolCall]:
    if (inner := _unfenced(body).lstrip())[:1] in ("{", "["):
        yield from json_calls(inner, parameters)
    elif found := _FUNCTION.match(body):
        yield _function(found, parameters)
    elif found := _GLM.match(body):
        pairs = _PAIR.findall(found[2])
        if found[2] and not pairs:
            raise Unreadable("its arguments are broken")
        yield ToolCall(found[1], _typed(((key.strip(), value) for key, value in pairs), parameters.get(found[1], {})))
    else:
        raise Unreadable("it is not JSON, or breaks off")


def _named_function(body: str, parameters: Parameters) -> Iterator[ToolCall]:
    """What follows ``<function=``: Qwen's parameters, or Llama's JSON."""
    if not (found := _FUNCTION.match(f"<function={body}</function>")):
        raise Unreadable("it names no tool")
    yield _function(found, parameters)


def _function(found: re.Match[str], parameters: Parameters) -> ToolCall:
    name, inner = found[1], found[2]
    if inner.lstrip().startswith("{"):
        return ToolCall(name, _arguments(_json_value(inner, 0)[0]))
    pairs = ((key, value.removeprefix("\n").removesuffix("\n")) for key, value in _PARAMETER.findall(inner))
    return ToolCall(name, _typed(pairs, parameters.get(name, {})))


def _mistral(body: str, parameters: Parameters) -> Iterator[ToolCall]:
    """A list of objects (up to version 3), or names each with its arguments."""
    if body.lstrip().startswith("["):
        yield from map(_call_of, _json_value(body, 0)[0])
        return
    at = 0
    while found := _MISTRAL.match(body, at):
        value, at = _json_value(body, found.end())
        yield ToolCall(found[1], _arguments(value), found[2] or "") if found[1] else _call_of(value)


def _deepseek(body: str, parameters: Parameters) -> Iterator[ToolCall]:
    """``function<sep>name`` and fenced JSON (V3, R1), or ``name<sep>JSON`` (V3.1)."""
    for one in _DEEPSEEK.findall(body):
        head, is_there, rest = one.partition("<｜tool▁sep｜>")
        if not is_there:
            raise Unreadable("it breaks off")
        name, _line, fenced = rest.partition("\n")
        if not rest.lstrip().startswith("{"):
            head, rest = name, fenced
        inner = _unfenced(rest).strip()
        yield ToolCall(head.strip(), _arguments(_json_value(inner, 0)[0]))


FAMILIES = (
    Family("<tool_call>", "</tool_call>", _whole(_tagged)),
    Family("<function=", "</function>", _whole(_named_function)),
    Family("<|python_tag|>", "", _whole(json_calls)),
    Family("[TOOL_CALLS]", "", _whole(_mistral)),
    Family("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", _whole(_deepseek)),
)
# Parts that a tokenizer may hold as special tokens, and would leave out of the text.
MARKS = (
    *(mark for family in FAMILIES for mark in (family.opening, family.closing) if mark),
    *("[ARGS]", "[CALL_ID]", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"),
)


def arguments_of(text: str) -> str:
    """What a service sent as arguments, as one JSON object. Raises Unreadable."""
    value, end = _json_value(text, 0) if text.strip() else ({}, len(text))
    if text[end:].strip():
        raise Unreadable("something follows its arguments")
    return _arguments(value)


def _call_of(value: Any) -> ToolCall:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise Unreadable("it is not a JSON object")
    name = value.get("name") or value.get("function")
    if not isinstance(name, str) or not name.strip():
        raise Unreadable("it names no tool")
    given: Any = next((value[key] for key in ("arguments", "parameters") if value.get(key) is not None), {})
    return ToolCall(name.strip(), _arguments(given))


def _arguments(value: Any) -> str:
    """Some models write the object as a string again."""
    if isinstance(value, str) and value.strip():
        value, _end = _json_value(value.strip(), 0)
    if not isinstance(value, dict):
        raise Unreadable("its arguments are not a JSON object")
    try:
        return well_formed(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise Unreadable("it is nested too deep") from None


def _typed(pairs: Iterator[tuple[str, str]], schema: Mapping[str, Any]) -> str:
    """Values that stand as plain text: JSON unless the schema says text, or unless they are none."""
    return _arguments({name: text if _is_text(schema, name) else _plain(text) for name, text in pairs})


def _is_text(schema: Mapping[str, Any], name: str) -> bool:
    """The caller's schema may be anything: only its outermost object was looked at."""
    kinds = schema.get("properties")
    kind = kinds.get(name) if isinstance(kinds, Mapping) else None
    return isinstance(kind, Mapping) and kind.get("type") == "string"


def _plain(text: str) -> Any:
    try:
        value, end = _json_value(text.strip(), 0)
    except Unreadable:
        return text
    return text if text.strip()[end:] else value


def _json_value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at ``at``, and where it ends. Line breaks in strings are forgiven. Raises Unreadable."""
    while at < len(text) and text[at].isspace():
        at += 1
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):  # the second: nested a hundred thousand deep
        raise Unreadable("its JSON is broken or breaks off") from None


def _no_number(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_number)


def _unfenced(text: str) -> str:
    """Without the fence of a Markdown block around it."""
    inner = text.strip()
    if len(inner) < 6 or not (inner.startswith("```") and inner.endswith("```")):
        return text
    language, _line, content = inner[3:-3].partition("\n")
    return content if language.strip() in ("", "json") else text
