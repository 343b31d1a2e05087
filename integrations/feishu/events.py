"""From an authentic Feishu payload to a value: messages, recalls, and what we only acknowledge.

Pure. Unknown events are Ignored, unknown kinds of message are ``unsupported``, neither is ever an error.
Source: PROTOCOL.md, "Events".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from integrations.base import (
    Credentials,
    Ignored,
    Inbound,
    IncomingMessage,
    Mention,
    Recalled,
    ReplyTarget,
)
from integrations.errors import PayloadError
from integrations.feishu import content
from integrations.feishu.opening import header

ALL_TOKEN, ALL_ID, ALL_NAME = "@_all", "all", "所有人"
_ALL = re.compile(r"@_all(?![A-Za-z0-9_])")
_MICROSECOND_DIGITS, _MILLISECOND_DIGITS = 16, 13

Json = Mapping[str, Any]


def parse(payload: Json, credentials: Credentials) -> Inbound:
    """Turn an authentic event of schema 2.0 or 1.0 into a value. Raises PayloadError where an id is missing."""
    event = _object(payload.get("event"))
    kind = _text(header(payload).get("event_type") if "schema" in payload else event.get("type"))
    if kind == "im.message.receive_v1":
        return _message(event, payload, credentials)
    if kind == "im.message.recalled_v1":
        return Recalled(_required(event, "message_id"))
    return Ignored(f"event {kind[:64] or 'without a type'}")


def _message(event: Json, payload: Json, credentials: Credentials) -> Inbound:
    sender, message = _object(event.get("sender")), _object(event.get("message"))
    if sender.get("sender_type") != "user":
        return Ignored("sender is not a person")  # bots that answer each other never end
    if message.get("content") == "":
        return Ignored("message was recalled before it came")
    return _incoming(message, _required(_object(sender.get("sender_id")), "open_id"), payload, credentials)


def _incoming(message: Json, sender_id: str, payload: Json, credentials: Credentials) -> IncomingMessage:
    body = content.read(_text(message.get("message_type")), _text(message.get("content")))
    mentions = _mentions(message.get("mentions"), body.text)
    target = _target(message, sender_id)
    return IncomingMessage(
        message_id=target.message_id,
        text=body.text,
        sender_id=sender_id,
        target=target,
        kind="text" if body.text.strip() else "unsupported",
        mentions=mentions,
        attachments=body.attachments,
        is_addressed=target.chat_type == "direct" or _is_addressed(mentions, credentials.own_id),
        sent_at_s=_seconds(message.get("create_time")),
        tenant_id=_text(header(payload).get("tenant_key")),
    )


def _target(message: Json, sender_id: str) -> ReplyTarget:
    return ReplyTarget(
        chat_id=_required(message, "chat_id"),
        chat_type="direct" if message.get("chat_type") == "p2p" else "group",
        message_id=_required(message, "message_id"),
        sender_id=sender_id,
        thread_id=_text(message.get("thread_id")),
    )


def _mentions(listed: Any, text: str) -> tuple[Mention, ...]:
    """Everybody named, each once. @all comes with empty ids, or only as a token in the text."""
    found = [_mention(_object(item)) for item in listed] if isinstance(listed, list) else []
    if _ALL.search(text) and not any(mention.token == ALL_TOKEN for mention in found):
        found.append(Mention(ALL_TOKEN, ALL_ID, ALL_NAME))
    return tuple(mention for mention in found if mention.token)


def _mention(item: Json) -> Mention:
    token, name = _text(item.get("key")), _text(item.get("name"))
    if token == ALL_TOKEN:
        return Mention(token, ALL_ID, name or ALL_NAME)
    return Mention(token, _text(_object(item.get("id")).get("open_id")), name)


def _is_addressed(mentions: tuple[Mention, ...], own_id: str) -> bool | None:
    """By id, never by name: people may carry the bot's name. @all calls nobody in particular."""
    named = [mention.id for mention in mentions if mention.id != ALL_ID]
    if not named:
        return False
    return own_id in named if own_id else None


def _seconds(stamp: Any) -> float:
    """Decimal text in seconds, milliseconds or microseconds, told apart by its length; 0 where unreadable."""
    text = _text(stamp)
    if not (text.isascii() and text.isdigit() and len(text) <= _MICROSECOND_DIGITS):
        return 0.0
    digits = len(text)
    return int(text) / (1e6 if digits == _MICROSECOND_DIGITS else 1e3 if digits == _MILLISECOND_DIGITS else 1)


def _required(source: Json, name: str) -> str:
    value = source.get(name)
    if not isinstance(value, str) or not value:
        raise PayloadError(f"the event has no {name}")
    return value


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
