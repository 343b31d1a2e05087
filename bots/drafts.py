"""A message on its way into the database: what it holds, and which conversation it belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from bots.commands import argument_of, command_in
from bots.models import Bot, Endpoint
from integrations.mentions import resolve
from integrations.values import IncomingMessage
from monitoring.ids import uuid7

ConversationKey = tuple[UUID, str, str]  # bot, source, scope


@dataclass(frozen=True, slots=True)
class Draft:
    """A message on its way into the database, and the conversation it belongs to."""

    bot_id: UUID
    queue: str
    platform: str
    source: str
    scope_key: str
    text: str
    app_id: str = ""
    external_id: str = ""  # empty: cannot be a repeat
    endpoint_id: UUID | None = None
    chat_type: str = "direct"
    chat_id: str = ""
    sender_id: str = ""
    sender_name: str = ""
    session_url: str = field(default="", repr=False)
    most_waiting: int = 0  # of the bot; 0: no limit
    details: dict[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)

    @property
    def place(self) -> ConversationKey:
        return self.bot_id, self.source, self.scope_key


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a draft. ``is_new`` is False for a repeat: then the ids are those of the first one."""

    message_id: UUID
    conversation_id: UUID
    is_new: bool


def draft(endpoint: Endpoint, incoming: IncomingMessage) -> Draft | None:
    """What to store of a platform's message; None when it is not meant for the bot."""
    bot, credential = endpoint.bot, endpoint.credential
    text, is_addressed = incoming.text, incoming.is_addressed
    if incoming.mentions and credential.own_id:
        text, is_mentioned = resolve(text, incoming.mentions, credential.own_id)
        is_addressed = is_mentioned or incoming.target.chat_type == "direct"
    target = incoming.target
    if target.chat_type == "group":
        policy = endpoint.group_policy_of(target.chat_id, bot)
        if policy == Bot.GroupPolicy.SILENT:
            return None
        is_addressed = True if is_addressed is False and policy == Bot.GroupPolicy.ALL else is_addressed
    if is_addressed is False:
        return None
    command = command_in(text)
    return Draft(
        bot_id=bot.pk,
        queue=bot.model.queue,
        platform=credential.platform,
        source=endpoint.pk.hex,
        scope_key=fitted(scope_key(bot, incoming), 255),
        text=text,
        app_id=credential.app_id,
        external_id=fitted(incoming.message_id, 200),
        endpoint_id=endpoint.pk,
        chat_type=target.chat_type,
        chat_id=fitted(target.chat_id, 200),
        sender_id=fitted(incoming.sender_id, 200),
        sender_name=incoming.sender_name[:200],
        session_url=target.webhook_url,
        most_waiting=bot.max_waiting,
        details={
            "kind": "command" if command else _kind(incoming),
            **({"command": command, "argument": argument_of(text)} if command else {}),
            "is_addressed": is_addressed,
            "mentions": [asdict(mention) for mention in incoming.mentions],
            "attachments": [asdict(attachment) for attachment in incoming.attachments],
            **({"quoted": asdict(incoming.quoted)} if incoming.quoted else {}),
            "target": target.without_secret(),
        },
    )


def _kind(incoming: IncomingMessage) -> str:
    """A message of files alone is one to answer, too: with what is in them, or with why they are no use."""
    return "text" if incoming.attachments else incoming.kind


def fitted(name: str, most: int) -> str:
    """A platform's id as a column of ``most`` characters holds it: a longer one ends in its digest."""
    if len(name) <= most:
        return name
    return f"{name[: most - 65]}#{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


def scope_key(bot: Bot, incoming: IncomingMessage) -> str:
    """Whose words share a context. A direct chat never shares with a group."""
    target = incoming.target
    if target.chat_type == "direct":
        return f"direct:{target.chat_id or incoming.sender_id}"
    if bot.context_scope == Bot.ContextScope.CHAT:
        return f"chat:{target.chat_id}"
    if bot.context_scope == Bot.ContextScope.THREAD and target.thread_id:
        return f"thread:{target.chat_id}:{target.thread_id}"
    return f"sender:{target.chat_id}:{incoming.sender_id}"
