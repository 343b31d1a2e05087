"""From an authentic Feishu payload to a value: messages, recalls, and what else the platform tells.

Pure. Unknown events are Ignored, unknown kinds of message are ``unsupported``, neither is ever an error.
Source: PROTOCOL.md, "Events".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from integrations.feishu import actions, chats, content, legacy
from integrations.feishu.fields import Json, list_of, object_of, required, seconds, text_of
from integrations.feishu.opening import header
from integrations.values import Credentials, Ignored, Inbound, IncomingMessage, Mention, Quoted, Recalled, ReplyTarget

ALL_TOKEN, ALL_ID, ALL_NAME = "@_all", "all", "所有人"
_ALL = re.compile(r"@_all(?![A-Za-z0-9_])")

Reader = Callable[[Json, Json], Inbound]  # of ``event`` and ``header``

_READERS: Final[Mapping[str, Reader]] = {
    "im.message.recalled_v1": lambda event, _: Recalled(required(event, "message_id")),
    "im.chat.member.bot.added_v1": chats.bot_added,
    "im.chat.member.bot.deleted_v1": chats.bot_removed,
    "im.chat.disbanded_v1": chats.bot_removed,
    "im.chat.access_event.bot_p2p_chat_entered_v1": chats.opened,
    "application.bot.menu_v6": chats.menu_clicked,
    "im.message.reaction.created_v1": chats.reaction,
    "im.message.reaction.deleted_v1": chats.reaction_taken_back,
    actions.EVENT: actions.read,
}


def parse(payload: Json, credentials: Credentials) -> Inbound:
    """Turn an authentic event of schema 2.0 or 1.0 into a value. Raises PayloadError where an id is missing."""
    event, top = object_of(payload.get("event")), header(payload)
    kind = text_of(top.get("event_type") if "schema" in payload else event.get("type"))
    if kind == "im.message.receive_v1":
        return _message(event, payload, credentials)
    if kind == legacy.EVENT and "schema" not in payload:
        return legacy.read(event, payload)
    if reader := _READERS.get(kind):
        return reader(event, top)
    return Ignored(f"event {kind[:64] or 'without a type'}")


def _message(event: Json, payload: Json, credentials: Credentials) -> Inbound:
    sender, message = object_of(event.get("sender")), object_of(event.get("message"))
    if sender.get("sender_type") != "user":
        return Ignored("sender is not a person")  # bots that answer each other never end
    if message.get("content") == "":
        return Ignored("message was recalled before it came")
    if message.get("message_type") == "system":
        return Ignored("message of the platform itself")  # somebody joined, a group got another name
    return _incoming(message, required(object_of(sender.get("sender_id")), "open_id"), payload, credentials)


def _incoming(message: Json, sender_id: str, payload: Json, credentials: Credentials) -> IncomingMessage:
    target = _target(message, sender_id)
    body = content.read(text_of(message.get("message_type")), text_of(message.get("content")), target.message_id)
    mentions = _mentions(message.get("mentions"), body.text)
    return IncomingMessage(
        message_id=target.message_id,
        text=body.text,
        sender_id=sender_id,
        target=target,
        kind="text" if body.text.strip() or body.attachments else "unsupported",
        mentions=mentions,
        attachments=body.attachments,
        is_addressed=target.chat_type == "direct" or _is_addressed(mentions, credentials.own_id),
        sent_at_s=seconds(message.get("create_time")),
        tenant_id=text_of(header(payload).get("tenant_key")),
        quoted=_quoted(message, target.message_id),
    )


def _target(message: Json, sender_id: str) -> ReplyTarget:
    return ReplyTarget(
        chat_id=required(message, "chat_id"),
        chat_type="direct" if message.get("chat_type") == "p2p" else "group",
        message_id=required(message, "message_id"),
        sender_id=sender_id,
        thread_id=text_of(message.get("thread_id")),
    )


def _quoted(message: Json, message_id: str) -> Quoted | None:
    """What is answered to: in a thread its first message. Forwards come without their words: they quote themselves."""
    if message.get("message_type") == content.FORWARD:
        return Quoted(message_id)
    parent_id = text_of(message.get("parent_id"))
    return Quoted(parent_id) if parent_id and parent_id != message_id else None


def _mentions(listed: Any, text: str) -> tuple[Mention, ...]:
    """Everybody named, each once. @all comes with empty ids, or only as a token in the text."""
    found = [_mention(object_of(item)) for item in list_of(listed)]
    if _ALL.search(text) and not any(mention.token == ALL_TOKEN for mention in found):
        found.append(Mention(ALL_TOKEN, ALL_ID, ALL_NAME))
    return tuple(mention for mention in found if mention.token)


def _mention(item: Json) -> Mention:
    token, name = text_of(item.get("key")), text_of(item.get("name"))
    if token == ALL_TOKEN:
        return Mention(token, ALL_ID, name or ALL_NAME)
    return Mention(token, text_of(object_of(item.get("id")).get("open_id")), name)


def _is_addressed(mentions: tuple[Mention, ...], own_id: str) -> bool | None:
    """By id, never by name: people may carry the bot's name. @all calls nobody in particular."""
    named = [mention.id for mention in mentions if mention.id != ALL_ID]
    if not named:
        return False
    return own_id in named if own_id else None
