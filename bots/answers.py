"""Answer: what came of asking a model, or what is said instead."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.base import Finish, ToolCall, Usage


@dataclass(slots=True)
class Answer:
    """What came of asking the model. ``error`` is for admins; ``text`` is what the person reads either way."""

    text: str
    finish: Finish
    usage: Usage = field(default_factory=Usage)
    error: str = ""
    timings: dict[str, int] = field(default_factory=dict)
    has_begun: bool = False  # with an error: something of it was shown before
    is_final: bool = False  # another model is no remedy
    model: str = ""  # the name of the one that was asked last
    tool_calls: tuple[ToolCall, ...] = ()  # for a caller who brought the tools along
    fallback_from: dict[str, str] = field(default_factory=dict)  # model and reason, where another one answered first
