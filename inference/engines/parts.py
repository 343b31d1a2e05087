"""Takes what a model writes apart: thinking, answer, tool calls. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inference.base import Delta, ToolCall
from inference.engines.reasoning import Piece, ReasoningSplitter
from inference.engines.tool_splitter import ToolSplitter


class PartSplitter:
    """Feed text, get deltas. ``tools`` are those that were offered; ``opens_reasoning``: the prompt ends in a tag."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] = (), *, opens_reasoning: bool = False) -> None:
        self._thinking = ReasoningSplitter(is_inside=opens_reasoning)
        self._tools = ToolSplitter(tools)

    def feed(self, text: str) -> list[Delta]:
        return self._parts(self._thinking.feed(text))

    def close(self, sent: Iterable[ToolCall] = ()) -> list[Delta]:
        """The text has ended: what was held back, and the calls that a service ``sent`` beside it."""
        deltas = self._parts(self._thinking.close())
        return deltas + [_delta(part) for part in (*self._tools.close(), *map(self._tools.judged, sent))]

    def _parts(self, pieces: Iterable[Piece]) -> list[Delta]:
        deltas: list[Delta] = []
        for kind, text in pieces:
            deltas += map(_delta, self._tools.feed(text)) if kind == "answer" else [Delta(text, kind)]
        return deltas


def _delta(part: str | ToolCall) -> Delta:
    return Delta(part) if isinstance(part, str) else Delta(kind="tool", call=part)
