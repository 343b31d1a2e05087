"""From messages to token ids: through the model's chat template, and within its context. Knows no weights."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from inference.base import ChatMessage, ToolCall
from inference.engines.local.control_tokens import ControlTokens
from inference.engines.local.vision import Patches, Picture, Vision
from inference.engines.reasoning import OPENING
from inference.errors import BadRequest, PromptTooLong

CUT_MARK = "\n[…]\n"
_SMALLEST_CUT_TOKENS = 16  # a message is not cut to less
_MAX_CUTS = 8
_REMEMBERED = 256  # messages
# The latter two where a tool's description is not formed as the template expects.
_REFUSALS = (TemplateError, TypeError, ValueError)

Turn = dict[str, Any]  # role, content, the Patches of its pictures, its tool calls as templates want them
Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is given. ``max_new_tokens`` is what was asked for, or less where the context ends before."""

    ids: list[int]
    max_new_tokens: int
    opens_reasoning: bool  # the template has begun the model's thinking
    picture: Picture | None = None


class PromptBuilder:
    """Writes prompts for one tokenizer. Safe to use from several threads."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context_tokens: int,
        template_options: Mapping[str, object] | None = None,
        vision: Vision | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer  # its encode, unlike the wrapper's, changes no state
        self._backend.no_truncation()
        self._backend.no_padding()
        self._context_tokens = context_tokens
        self._template_options = dict(template_options or {})
        # A talk comes back with each turn; its old messages need no second look.
        self._neutralised = lru_cache(_REMEMBERED)(ControlTokens(tokenizer).neutralise)
        self._vision = vision

    def build(self, messages: Sequence[ChatMessage], max_new_tokens: int, tools: Tools = ()) -> Prompt:
        """Keep the system's and the newest turns, reserve the answer (at most half of the context).

        ``tools`` go to the template; one that knows none leaves them out.

        Raises PromptTooLong when even cutting the longest messages does not make it fit, BadRequest when the template
        refuses the turns.
        """
        budget = self._context_tokens - min(max_new_tokens, self._context_tokens // 2)
        turns = [self._turn(message) for message in messages]
        tools = [self._tame(tool) for tool in tools]
        text = self._render(turns, tools)
        ids = self._encode(text)
        if self._length(ids, turns) > budget:
            turns = self._fitted(turns, budget, tools)
            text = self._render(turns, tools)
            ids = self._encode(text)
        picture = None
        if self._vision and (pictures := _pictures(turns)):
            ids, picture = self._vision.placed(ids, pictures)
        room = min(max_new_tokens, self._context_tokens - len(ids))
        return Prompt(ids, room, text.rstrip().endswith(OPENING), picture)

    def _turn(self, message: ChatMessage) -> Turn:
        if message.images and self._vision is None:
            raise BadRequest("this model does not read pictures")
        pictures = [self._vision.read(image) for image in message.images] if self._vision else []
        turn: Turn = {"role": message.role, "content": self._neutralised(message.text), "pictures": pictures}
        if message.calls:
            turn["tool_calls"] = [self._call(call) for call in message.calls]
        if message.call_id:
            turn["tool_call_id"] = self._neutralised(message.call_id)
        return turn

    def _call(self, call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": json.loads(call.arguments)}
        tame: dict[str, Any] = self._tame({"id": call.id, "type": "function", "function": function})
        return tame

    def _tame(self, value: Any) -> Any:
        """Neutralise every text in a tool's description or a call's arguments."""
        if isinstance(value, str):
            return self._neutralised(value)
        if isinstance(value, Mapping):
            return {self._neutralised(str(name)): self._tame(inner) for name, inner in value.items()}
        return [self._tame(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _fitted(self, turns: list[Turn], budget: int, tools: Tools) -> list[Turn]:
        system = [turn for turn in turns if turn["role"] == "system"]
        exchanges = _exchanges([turn for turn in turns if turn["role"] != "system"])

        def without_oldest(dropped: int) -> list[Turn]:
            return system + [turn for exchange in exchanges[dropped:] for turn in exchange]

        last = len(exchanges) - 1
        dropped = bisect_left(range(last), True, key=lambda count: self._count(without_oldest(count), tools) <= budget)
        return self._cut(without_oldest(dropped), budget, tools)

    def _cut(self, turns: list[Turn], budget: int, tools: Tools) -> list[Turn]:
        """Shorten the longest message in its middle, again and again if need be."""
        for _ in range(_MAX_CUTS):
            excess = self._count(turns, tools) - budget
            if excess <= 0:
                return turns
            longest = max(turns, key=lambda turn: len(self._encode(turn["content"])))
            share = max(_SMALLEST_CUT_TOKENS, budget // (len(turns) + 1))
            shorter = longest | {"content": self._without_middle(longest["content"], excess, share)}
            turns = [shorter if turn is longest else turn for turn in turns]
        raise PromptTooLong(f"the prompt does not fit into {budget} tokens")

    def _without_middle(self, text: str, excess: int, at_least: int) -> str:
        """Drop ``excess`` tokens, and as many more as the mark needs, but keep ``at_least`` so many."""
        offsets = self._backend.encode(text, add_special_tokens=False).offsets
        wanted = len(offsets) - excess - len(self._encode(CUT_MARK)) - 2  # the new borders may cost a token each
        keep = max(wanted, at_least)
        if keep >= len(offsets):
            raise PromptTooLong("the prompt leaves no room in the model's context")
        head_end = offsets[keep // 2][0]
        tail_start = offsets[len(offsets) - (keep - keep // 2)][0]
        return text[:head_end] + CUT_MARK + text[tail_start:]

    def _count(self, turns: list[Turn], tools: Tools) -> int:
        return self._length(self._encode(self._render(turns, tools)), turns)

    def _length(self, ids: list[int], turns: list[Turn]) -> int:
        """With what the pictures will take; each has one mark so far."""
        return len(ids) + sum(picture.tokens - 1 for picture in _pictures(turns))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def _render(self, turns: list[Turn], tools: Tools) -> str:
        try:
            return self._apply(turns, tools)
        except _REFUSALS:
            try:
                return self._apply(alternating(turns), tools)
            except _REFUSALS as error:
                raise BadRequest(f"the chat template refuses these turns: {error}") from error

    def _apply(self, turns: list[Turn], tools: Tools) -> str:
        options: dict[str, Any] = {**self._template_options, "add_generation_prompt": True, "tokenize": False}
        if tools:
            options["tools"] = tools
        return str(self._tokenizer.apply_chat_template([_for_template(turn) for turn in turns], **options))


def alternating(turns: list[Turn]) -> list[Turn]:
    """For strict templates: no system turn (its text goes before the first user's), user and assistant by turns.

    A tool's result is told by the user then, and what was called is left out.
    """
    turns = [turn | {"role": "user"} if turn["role"] == "tool" else turn for turn in turns]
    system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    spoken = [turn for exchange in _exchanges([t for t in turns if t["role"] != "system"]) for turn in exchange]
    while spoken and spoken[0]["role"] != "user":
        spoken = spoken[1:]
    joined: list[Turn] = []
    for role, same in groupby(spoken, key=lambda turn: turn["role"]):
        turns = list(same)
        content = "\n\n".join(turn["content"] for turn in turns)
        joined.append({"role": role, "content": content, "pictures": _pictures(turns)})
    if system and joined:
        joined[0]["content"] = f"{system}\n\n{joined[0]['content']}"
    return joined


def _for_template(turn: Turn) -> dict[str, Any]:
    """A text, or parts where there are pictures: as most templates were written for."""
    if not turn.get("pictures"):
        return {name: value for name, value in turn.items() if name != "pictures"}
    marks = [{"type": "image"} for _ in turn["pictures"]]
    return {"role": turn["role"], "content": [*marks, {"type": "text", "text": turn["content"]}]}


def _pictures(turns: Sequence[Turn]) -> list[Patches]:
    return [picture for turn in turns for picture in turn.get("pictures", ())]


def _exchanges(turns: list[Turn]) -> list[list[Turn]]:
    """Group turns so that each group but the first begins with a user's turn."""
    groups: list[list[Turn]] = []
    for turn in turns:
        if turn["role"] == "user" or not groups:
            groups.append([])
        groups[-1].append(turn)
    return groups
