"""What Feishu tells of chats besides messages: the bot comes and goes, chats are opened, menus clicked, thumbs raised.

Pure. Source: PROTOCOL.md, "Other events".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from integrations.feishu.fields import Json, object_of, required, seconds, text_of
from integrations.values import BotAdded, BotRemoved, ChatOpened, Ignored, Inbound, MenuClicked, Reaction, Vote

_VOTES: Final[Mapping[str, Vote]] = {"thumbsup": "up", "thumbsdown": "down"}


def bot_added(event: Json, header: Json) -> Inbound:
    return BotAdded(
        chat_id=required(event, "chat_id"),
        event_id=required(header, "event_id"),
        chat_name=text_of(event.get("name")),
        user_id=_open_id(event.get("operator_id")),
    )


def bot_removed(event: Json, header: Json) -> Inbound:
    return BotRemoved(required(event, "chat_id"))


def opened(event: Json, header: Json) -> Inbound:
    return ChatOpened(required(event, "chat_id"), required(object_of(event.get("operator_id")), "open_id"))


def menu_clicked(event: Json, header: Json) -> Inbound:
    operator = object_of(event.get("operator"))
    stamp = event.get("timestamp")
    return MenuClicked(
        key=required(event, "event_key"),
        user_id=required(object_of(operator.get("operator_id")), "open_id"),
        event_id=required(header, "event_id"),
        user_name=text_of(operator.get("operator_name")),
        sent_at_s=seconds(str(stamp) if isinstance(stamp, int) else stamp),
    )


def reaction(event: Json, header: Json) -> Inbound:
    return _reaction(event, is_removed=False)


def reaction_taken_back(event: Json, header: Json) -> Inbound:
    return _reaction(event, is_removed=True)


def _reaction(event: Json, *, is_removed: bool) -> Inbound:
    """Thumbs of people alone; the bot's own "Typing" comes back to it, too."""
    emoji = text_of(object_of(event.get("reaction_type")).get("emoji_type"))
    vote = _VOTES.get(emoji.casefold())
    if event.get("operator_type") != "user" or vote is None:
        return Ignored("reaction without a vote")
    return Reaction(
        message_id=required(event, "message_id"),
        user_id=required(object_of(event.get("user_id")), "open_id"),
        vote=vote,
        is_removed=is_removed,
    )


def _open_id(ids: object) -> str:
    return text_of(object_of(ids).get("open_id"))
