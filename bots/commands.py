"""Words that a person says to the machinery instead of the model: /help, /new, /stop, /status, /model.

Found at the door, so that /stop acts at once; answered in order like every message, by a fixed sentence.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, Literal

from django.utils.translation import gettext as _

from bots import choice
from bots.models import Conversation, Message
from bots.sentences import say

Command = Literal["help", "new", "stop", "status", "model"]
NAMES: Final[dict[str, Command]] = {
    "help": "help",
    "帮助": "help",
    "new": "new",
    "reset": "new",
    "新对话": "new",
    "stop": "stop",
    "停止": "stop",
    "status": "status",
    "状态": "status",
    "model": "model",
    "模型": "model",
}
# Somebody named in front is the bot: else the message would not have come here.
FORM: Final = re.compile(r"(?:@\S+\s+)*[/／](\w+)(?:\s+(.{1,200}))?")


def command_in(text: str) -> Command | None:
    """The command that a text is, whole: a question that only begins with a slash is a question."""
    return _read(text)[0]


def argument_of(text: str) -> str:
    """What stands behind the command: the name of a model."""
    return _read(text)[1]


def _read(text: str) -> tuple[Command | None, str]:
    found = FORM.fullmatch(text.strip())
    command = NAMES.get(found[1].lower()) if found else None
    argument = (found[2] or "").strip() if found else ""
    return (None, "") if argument and command != "model" else (command, argument)


def menu_command(key: str) -> str:
    """The command that an item of a bot's menu stands for, with or without its slash; empty for a question."""
    text = f"/{key.strip().lstrip('/')}"
    return text if command_in(text) else ""


def carry_out(question: Message) -> str:
    """Do what a stored command asks; returns what to say."""
    conversation = question.conversation
    match question.details["command"]:
        case "new":
            forget(
                conversation, question.received_at + timedelta(microseconds=1)
            )  # what was stored with it came before
            return say("new")
        case "stop":
            return say("stopped_for_you" if question.details.get("stopped") else "nothing_to_stop")
        case "status":
            return status(conversation)
        case "model":
            return model(conversation, question.details.get("argument", ""))
        case _:
            return helped(conversation)


def forget(conversation: Conversation, since: datetime) -> None:
    """What was said before is no longer part of the context; the rows stay."""
    conversation.context_started_at = since
    conversation.save(update_fields=["context_started_at"])


def helped(conversation: Conversation) -> str:
    lines = [say("help")]
    if len(choice.offered(conversation.bot)) > 1:
        lines.append(_("- /model: which models there are; /model NAME: choose one"))
    sees = choice.in_use(conversation).vision
    lines += ["", say("reads_images_too") if sees else say("reads_files")]
    return "\n".join(lines)


def model(conversation: Conversation, name: str) -> str:
    """List the models, or choose one for this conversation."""
    offered = choice.offered(conversation.bot)
    if len(offered) < 2:
        return _("There is no choice of models here. I use %(model)s.") % {"model": choice.in_use(conversation).name}
    if not name:
        return _listed(conversation)
    if not choice.choose(conversation, name):
        return "\n".join([_("There is no model of this name here."), _listed(conversation)])
    return _("From now on I use %(model)s in this conversation.") % {"model": choice.in_use(conversation).name}


def _listed(conversation: Conversation) -> str:
    used = choice.in_use(conversation).pk
    lines = [
        _("- %(model)s (in use)") % {"model": one.name} if one.pk == used else f"- {one.name}"
        for one in choice.offered(conversation.bot)
    ]
    return "\n".join([_("Models:"), *lines, "", _("Choose one with /model NAME.")])


def status(conversation: Conversation) -> str:
    bot = conversation.bot
    waiting = conversation.messages.waiting().count() - 1  # without this one
    return "\n".join(
        [
            _("Bot: %s") % bot.name,
            _("Model: %s") % choice.in_use(conversation).name,
            _("Remembered messages: %d") % bot.history_messages,
            _("Waiting here: %d") % max(0, waiting),
        ]
    )
