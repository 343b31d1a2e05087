"""What becomes of a model's tool calls. The bot itself has no tools and never does what a model calls (rule L7).

A caller of ``/v1/chat/completions`` may bring tools of its own along: then the calls are part of the answer, and
whether anything is done is the caller's matter. In every other door a call is refused, and noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bots.answers import Answer
from bots.models import Message
from bots.sentences import say
from inference.base import GenRequest, ToolCall
from monitoring import audit
from monitoring.context import Actor
from monitoring.ids import uuid7

MOST_NAMED: Final = 10


def settle(answer: Answer, calls: Sequence[ToolCall], request: GenRequest, question: Message) -> str:
    """Put the calls into the answer, or refuse them; returns why they cannot be passed on, if they cannot."""
    if not request.tools or request.tool_choice == "none":
        _refuse(answer, calls, question)
        return ""
    answer.tool_calls = tuple(calls)
    return next((call.problem for call in calls if call.problem), "")


def _refuse(answer: Answer, calls: Sequence[ToolCall], question: Message) -> None:
    bot = question.conversation.bot
    names = sorted({call.name[:60] or "(unreadable)" for call in calls})
    refused = audit.entry(
        "tool.refused",
        pk=uuid7(),
        actor=Actor("system", str(bot.pk), bot.slug),
        target=question,
        target_label=f"{question.role} message",
        changes={"tools": names[:MOST_NAMED], "model": answer.model},
        outcome="refused",
        reason="the model called a tool, and the bot has none",
    )
    audit.record_many([refused])
    if answer.finish == "tool_calls":
        answer.finish = "stop"
    if not answer.text.strip():
        answer.text = say("no_tools")


# -- kept with messages --


def kept(calls: Sequence[ToolCall]) -> list[dict[str, str]]:
    return [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]


def read(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    """The calls of a caller's own message."""
    return tuple(ToolCall(call["name"], call["arguments"], call["id"]) for call in message.get("calls", ()))


def in_api(calls: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """In the shape of OpenAI's chat API."""
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in calls
    ]
