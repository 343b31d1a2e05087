"""Words that a person says to the machinery instead of the model: /help, /new, /stop, /status.

Found at the door, so that /stop acts at once; answered in order like every message, by a fixed sentence.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from django.utils.translation import gettext as _

from bots.models import Conversation, Message
from bots.sentences import say

Command = Literal["help", "new", "stop", "status"]
NAMES: dict[str, Command] = {
    "/help": "help",
    "/帮助": "help",
    "/new": "new",
    "/reset": "new",
    "/新对话": "new",
    "/stop": "stop",
    "/停止": "stop",
    "/status": "status",
    "/状态": "status",
}


def command_in(text: str) -> Command | None:
    """The command that a text is, whole: a question that only begins with a slash is a question."""
    return NAMES.get(text.strip().lower())


def carry_out(question: Message) -> str:
    """Do what a stored command asks; returns what to say."""
    command = question.details["command"]
    conversation = question.conversation
    if command == "new":
        forget(conversation, question.received_at + timedelta(microseconds=1))  # what was stored with it came before
    if command == "stop":
        return say("stopped_for_you" if question.details.get("stopped") else "nothing_to_stop")
    return status(conversation) if command == "status" else say(command)


def forget(conversation: Conversation, since: datetime) -> None:
    """What was said before is no longer part of the context; the rows stay."""
    conversation.context_started_at = since
    conversation.save(update_fields=["context_started_at"])


def status(conversation: Conversation) -> str:
    bot = conversation.bot
    waiting = conversation.messages.waiting().count() - 1  # without this one
    return "\n".join(
        [
            _("Bot: %s") % bot.name,
            _("Model: %s") % bot.model.name,
            _("Remembered messages: %d") % bot.history_messages,
            _("Waiting here: %d") % max(0, waiting),
        ]
    )
