"""Takes tool calls out of an answer that comes in pieces: markup of any family never reaches a person. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inference.base import GenRequest, ToolCall
from inference.engines.tool_markup import FAMILIES, Family, Parameters, Unreadable, arguments_of, json_calls, unreadable
from inference.text import Splitter, held_back

_OPENINGS = {family.opening: family for family in FAMILIES}
_LEFTOVERS = ("</tool_call>", "<｜tool▁calls▁end｜>")  # ends without a beginning: some models forget it
_MARKERS = (*_OPENINGS, *_LEFTOVERS)
_QUOTE = re.compile(r'\\.|(")', re.S)
_TELLS_ITS_END = re.compile(r"\s*[{\[`<]")  # JSON and tags; the plain forms are whole only where they are closed

Piece = str | ToolCall


def offered(request: GenRequest) -> tuple[Mapping[str, Any], ...]:
    """The tools that this request's ``tool_choice`` leaves."""
    choice = request.tool_choice
    if choice == "none":
        return ()
    if isinstance(choice, Mapping):
        return tuple(tool for tool in request.tools if _name(tool) == _name(choice))
    return request.tools


def parameters_of(tools: Sequence[Mapping[str, Any]]) -> Parameters:
    return {_name(tool): _schema(tool) for tool in tools}


class ToolSplitter(Splitter):
    """Feed text, get pieces of text and ToolCalls.

    An opening right after a backtick is a quotation, as for thinking. Markup that is never closed goes on to the end.
    Where tools were offered, an answer that is nothing but JSON may be a call, too (Llama 3): it waits for its end.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        self._parameters = parameters_of(tools)
        self._family: Family | None = None
        self._is_start = bool(tools)
        self._looked_at = self._quotes = 0  # in the markup

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        if self._is_start and self._buffer.lstrip()[:1] in ("", "{"):
            return []
        self._is_start = False
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def close(self) -> list[Piece]:
        """The text has ended: return what was held back."""
        pieces: list[Piece] = []
        if self._is_start and (calls := self._bare_calls()):
            self._buffer = ""
            return list(calls)
        self._is_start = False
        while self._step(pieces):
            pass
        if self._family and self._family.closing and not _TELLS_ITS_END.match(self._buffer):
            pieces.append(self.judged(unreadable("it breaks off", self._buffer)))
            self._buffer = ""
        elif self._family:
            self._end(len(self._buffer), pieces)
        self._take(len(self._buffer), pieces)
        return pieces

    def judged(self, call: ToolCall) -> ToolCall:
        """With an id, and a problem where nobody offered such a tool."""
        call = call if call.id else replace(call, id=uuid.uuid4().hex[:9])  # Mistral's templates want nine signs
        if call.problem or call.name in self._parameters:
            return call
        return replace(call, problem=f"the model called a tool that was not offered: {call.name[:60]}")

    def _step(self, pieces: list[Piece]) -> bool:
        """Pass one border between text and markup; False where there is none."""
        if self._family:
            at = self._closing_at()
            return at >= 0 and self._end(at, pieces)
        at, marker = self._marker()
        if not marker:
            self._take(len(self._buffer) - held_back(self._buffer, _MARKERS), pieces)
            return False
        self._take(at, pieces)
        self._buffer = self._buffer.removeprefix(marker)
        self._family = _OPENINGS.get(marker)
        self._skips_space = True
        return True

    def _marker(self) -> tuple[int, str]:
        """The first one that is no quotation."""
        if "<" not in self._buffer and "[" not in self._buffer:
            return 0, ""
        found = [(at, marker) for marker in _MARKERS if (at := self._find(marker)) >= 0]
        return min(found, default=(0, ""))

    def _closing_at(self) -> int:
        """Where the markup ends: not inside a string of its JSON."""
        assert self._family
        closing = self._family.closing
        at = self._buffer.find(closing, self._looked_at) if closing else -1
        while at >= 0 and self._is_in_string(at):
            at = self._buffer.find(closing, at + 1)
        return at

    def _is_in_string(self, at: int) -> bool:
        """Counts on from the last place that was asked for: an answer that grows is not read again and again."""
        if self._buffer.lstrip()[:1] not in ("{", "["):
            return False
        self._quotes += sum(bool(found[1]) for found in _QUOTE.finditer(self._buffer, self._looked_at, at))
        self._looked_at = at
        return self._quotes % 2 == 1

    def _end(self, at: int, pieces: list[Piece]) -> bool:
        assert self._family
        body, closing = self._buffer[:at], self._family.closing
        pieces += [self.judged(call) for call in self._family.read(body, self._parameters)]
        self._buffer = self._buffer[at:].removeprefix(closing)
        self._family, self._last_character = None, ""
        self._looked_at = self._quotes = 0
        return True

    def _bare_calls(self) -> list[ToolCall]:
        """The calls of an answer that holds nothing else, and calls only what was offered."""
        try:
            calls = list(json_calls(self._buffer, self._parameters))
        except Unreadable:
            return []
        return [self.judged(call) for call in calls] if all(call.name in self._parameters for call in calls) else []

    def _take(self, size: int, pieces: list[Piece]) -> None:
        if text := self._taken(size):
            pieces.append(text)


class SentCalls:
    """Calls that a service sends beside the text, in pieces of its own."""

    def __init__(self) -> None:
        self._calls: list[dict[str, str]] = []
        self._open: dict[int | None, dict[str, str]] = {}  # by the service's index

    def add(self, index: int | None, id: str, name: str, arguments: str) -> None:
        """A piece. A name begins another call where a service sends no index, or one index with another id."""
        call = self._open.get(index)
        if call is None or (name and (index is None or (id and id != call["id"]))):
            call = self._open[index] = {"id": "", "name": "", "arguments": ""}
            self._calls.append(call)
        call["id"], call["name"] = call["id"] or id, call["name"] or name
        call["arguments"] += arguments

    def whole(self) -> list[ToolCall]:
        return [_sent(**call) for call in self._calls]


def _sent(id: str, name: str, arguments: str) -> ToolCall:
    try:
        if not name:
            raise Unreadable("it names no tool")
        return ToolCall(name, arguments_of(arguments), id)
    except Unreadable as error:
        problem = f"the service sent a tool call that cannot be read: {error}"
        return ToolCall(name, id=id, problem=problem, written=f"{name} {arguments}".strip())


def _name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""


def _schema(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = tool["function"].get("parameters") if isinstance(tool.get("function"), Mapping) else None
    return schema if isinstance(schema, Mapping) else {}
