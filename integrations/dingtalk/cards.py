"""Bodies of everything sent to DingTalk: webhook and robot messages, cards and their updates. Pure.

Model text enters here and leaves safe. Nothing here can ring at everybody: ``isAtAll`` is never written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.dingtalk.markdown import clean, literal, plain_text, preview
from integrations.dingtalk.opening import robot_code
from integrations.dingtalk.splitting import CARD, MAX_PARTS, cut, split
from integrations.values import Credentials, ReplyTarget, Toast

Json = dict[str, Any]

CONTENT_KEY = "content"  # the Markdown variable that the card template must have
VOTE_KEY = "vote"  # a private text variable that it may have: up or down


@dataclass(frozen=True, slots=True)
class Message:
    """One message, safe and of a size that every channel takes. ``title`` is empty where text is no Markdown."""

    text: str
    title: str = ""


def messages(source: str, max_parts: int = MAX_PARTS) -> tuple[Message, ...]:
    """A model's whole answer as the messages that carry it; the same source always gives the same messages."""
    if text := plain_text(source):
        return tuple(Message(part) for part in split(text, max_parts=max_parts))
    return tuple(Message(part, preview(part)) for part in split(clean(source), max_parts=max_parts))


def literal_messages(source: str, max_parts: int = MAX_PARTS) -> tuple[Message, ...]:
    """A text as plain messages, sign for sign, whatever it would mean as Markdown."""
    return tuple(Message(part) for part in split(literal(source), max_parts=max_parts))


def card_text(source: str) -> tuple[str, str]:
    """What of an answer its card shows, and the rest, as Markdown for further messages."""
    return cut(clean(source, rich=True), CARD)


def mention(target: ReplyTarget) -> str:
    """Whom an answer in a group names: who asked. Empty in a direct chat and for ids that could mean more.

    The id comes with a body that no signature covers. Source: PROTOCOL.md, "Mentions".
    """
    is_one_person = re.fullmatch(r"(?!all|every)[A-Za-z0-9._-]{1,64}", target.sender_id, re.IGNORECASE)
    return target.sender_id if target.chat_type == "group" and is_one_person else ""


def webhook_message(message: Message, at_staff_id: str = "") -> Json:
    """Body of a sessionWebhook call. A mention works only when the text holds it too."""
    text = f"@{at_staff_id}\n\n{message.text}" if at_staff_id else message.text
    at = {"at": {"atUserIds": [at_staff_id]}} if at_staff_id else {}
    if message.title:
        return {"msgtype": "markdown", "markdown": {"title": message.title, "text": text}, **at}
    return {"msgtype": "text", "text": {"content": text}, **at}


def user_message(credentials: Credentials, staff_id: str, message: Message) -> Json:
    return {"robotCode": robot_code(credentials), "userIds": [staff_id], **_sample(message)}


def group_message(credentials: Credentials, conversation_id: str, message: Message) -> Json:
    return {"robotCode": robot_code(credentials), "openConversationId": conversation_id, **_sample(message)}


def has_card_space(target: ReplyTarget) -> bool:
    """Whether a card can be put into the chat: ``;`` would name a second chat, and no signature covers the id."""
    place = target.chat_id if target.chat_type == "group" else target.sender_id
    return bool(place) and ";" not in place


def card(credentials: Credentials, target: ReplyTarget, out_track_id: str, route: str = "") -> Json:
    """Body of createAndDeliver: an empty card in the chat that ``target`` names.

    ``route`` is where DingTalk posts its pressed buttons; empty: they come by the long connection.
    """
    return {
        "cardTemplateId": credentials.card_template_id,
        "outTrackId": out_track_id,
        **({"callbackType": "HTTP", "callbackRouteKey": route} if route else {"callbackType": "STREAM"}),
        "cardData": {"cardParamMap": {CONTENT_KEY: ""}},
        **(_group_space(credentials, target) if target.chat_type == "group" else _robot_space(target)),
    }


def card_update(out_track_id: str, guid: str, text: str, *, is_final: bool = False, is_error: bool = False) -> Json:
    """Body of a streaming update: the whole text so far. ``guid`` is new for each text, the same for its repeats."""
    return {
        "outTrackId": out_track_id,
        "guid": guid,
        "key": CONTENT_KEY,
        "content": text,
        "isFull": True,
        "isFinalize": is_final,
        "isError": is_error,
    }


def _sample(message: Message) -> Mapping[str, str]:
    if message.title:
        return {"msgKey": "sampleMarkdown", "msgParam": _json({"title": message.title, "text": message.text})}
    return {"msgKey": "sampleText", "msgParam": _json({"content": message.text})}


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _group_space(credentials: Credentials, target: ReplyTarget) -> Json:
    return {
        "openSpaceId": f"dtv1.card//IM_GROUP.{target.chat_id}",
        "imGroupOpenSpaceModel": {"supportForward": True},
        "imGroupOpenDeliverModel": {"robotCode": robot_code(credentials), **_mentioned(target)},
    }


def _mentioned(target: ReplyTarget) -> Json:
    """Whom a card names when it appears: who asked. The name is what the person wrote, so it is shown as words only."""
    staff_id = mention(target)
    return {"atUserIds": {staff_id: plain_text(target.sender_name) or staff_id}} if staff_id else {}


def _robot_space(target: ReplyTarget) -> Json:
    return {
        "openSpaceId": f"dtv1.card//IM_ROBOT.{target.sender_id}",
        "imRobotOpenSpaceModel": {"supportForward": True},
        "imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT"},
    }


def pressed(toast: Toast) -> Json:
    """What DingTalk takes as answer to a pressed button: the person's own vote. It has no place for words.

    Source: PROTOCOL.md, "Card actions".
    """
    if toast.vote is None:
        return {}
    return {
        "cardUpdateOptions": {"updateCardDataByKey": True, "updatePrivateDataByKey": True},
        "userPrivateData": {"cardParamMap": {VOTE_KEY: toast.vote}},
    }
