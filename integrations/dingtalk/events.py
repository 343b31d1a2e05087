"""From an authentic object of DingTalk to a value: messages, pressed buttons, events. Pure; knows no network, no clock.

Unknown kinds are Ignored or ``unsupported``, never an error.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal
from urllib.parse import urlsplit

from integrations.dingtalk import content
from integrations.dingtalk.opening import PressedButton, SealedEvent, error_code
from integrations.dingtalk.payload import Json, as_id, as_name, as_object, as_text, epoch_s, missing
from integrations.values import (
    BotAdded,
    BotRemoved,
    CardAction,
    ChatType,
    Credentials,
    Ignored,
    Inbound,
    IncomingMessage,
    ReplyTarget,
)

MAX_URL_CHARS = 2_000
MAX_NAME_CHARS = 60
OVER_QUOTA = "20001"
ADDED: Final = "im_cool_app_install"
GONE: Final = frozenset({"chat_disband", "im_cool_app_uninstall"})

_CHAT_TYPES: dict[str, ChatType] = {"1": "direct", "2": "group"}
_BUTTONS: Final[dict[str, Literal["stop", "up", "down"]]] = {
    "stop": "stop",
    "up": "up",
    "like": "up",
    "down": "down",
    "dislike": "down",
}


def parse(payload: Json, credentials: Credentials) -> Inbound:
    """Turn the authentic object of a callback into a value; its kind was told by its proof."""
    match payload:
        case PressedButton():
            return parse_card_action(payload)
        case SealedEvent():
            return parse_event(as_text(payload.get("EventType")), payload)
        case _:
            return parse_message(payload, credentials)


def parse_message(payload: Json, credentials: Credentials) -> Inbound:
    """Turn a robot's message into a value. Source: PROTOCOL.md, "Message body", "Message kinds"."""
    if code := error_code(payload):
        return Ignored("over_quota" if code == OVER_QUOTA else "platform_error")
    chat_type = _CHAT_TYPES.get(str(payload.get("conversationType")))
    if chat_type is None:
        return Ignored("unknown_conversation_type")
    said = content.said(payload)
    staff_id = as_id(payload, "senderStaffId")
    sender_id = staff_id or as_id(payload, "senderId") or missing("senderStaffId and senderId")
    return IncomingMessage(
        message_id=as_id(payload, "msgId") or missing("msgId"),
        text=said.text,
        sender_id=sender_id,
        target=_target(payload, credentials, chat_type, staff_id, sender_id),
        kind="text" if said.is_something else "unsupported",
        sender_name=as_text(payload.get("senderNick")),
        attachments=said.attachments,
        sent_at_s=epoch_s(payload.get("createAt")),
        tenant_id=as_id(payload, "chatbotCorpId"),
        quoted=content.quoted(payload),
    )


def parse_card_action(payload: Json) -> Inbound:
    """Turn a pressed button into a value. Source: PROTOCOL.md, "Card actions"."""
    pressed = as_object(as_object(payload.get("content") or payload.get("value")).get("cardPrivateData"))
    card_id, user_id = as_name(payload, "outTrackId"), as_name(payload, "userId")
    button = _button(pressed)
    if not (card_id and user_id and button):
        return Ignored("unknown_card_action")
    chat_id = as_name(payload, "spaceId") if payload.get("spaceType") == "IM_GROUP" else ""
    return CardAction(user_id=user_id, card_id=card_id, button=button, chat_id=chat_id)


def parse_event(kind: str, payload: Json, event_id: str = "") -> Inbound:
    """Turn an event into a value: only what becomes of the robot's groups means something here.

    Source: PROTOCOL.md, "Events".
    """
    chat_id = _either(payload, "openConversationId")
    if kind in GONE and chat_id:
        return BotRemoved(chat_id)
    if kind == ADDED and chat_id and (event_id := event_id or _either(payload, "eventId")):
        return BotAdded(chat_id, event_id, user_id=_either(payload, "operator"))
    return Ignored("event")


def _either(payload: Json, name: str) -> str:
    """Keys begin small or capital, by the way they came."""
    return as_name(payload, name) or as_name(payload, name[0].upper() + name[1:])


def _button(pressed: Json) -> Literal["", "stop", "up", "down"]:
    """An action's id is the word of who made the template; ``btn_like`` and a parameter ``vote`` are known too."""
    ids = pressed.get("actionIds")
    words = [*(ids if isinstance(ids, list) else ()), as_object(pressed.get("params")).get("vote")]
    names = (word.removeprefix("btn_") for word in words if isinstance(word, str))
    return next((_BUTTONS[name] for name in names if name in _BUTTONS), "")


def session_url(webhook: str, oapi_url: str) -> str:
    """``webhook`` rebuilt upon DingTalk's own origin; empty when it names any other: the body is not signed."""
    if not (webhook.isascii() and webhook.isprintable() and len(webhook) <= MAX_URL_CHARS and " " not in webhook):
        return ""
    if not same_origin(webhook, oapi_url):
        return ""
    base, parts = urlsplit(oapi_url), urlsplit(webhook)
    return f"{base.scheme}://{base.netloc}{parts.path}?{parts.query}"


def same_origin(url: str, base: str) -> bool:
    """Whether ``url`` leads to ``base``'s scheme, host and port, and to nobody's account there."""
    try:
        origin, own = _origin(url), _own_origin(base)
    except ValueError:
        return False
    return origin == own and bool(own[1]) and "@" not in urlsplit(url).netloc


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


_own_origin = lru_cache(maxsize=32)(_origin)  # the same with each message


def _target(payload: Json, credentials: Credentials, chat_type: ChatType, staff_id: str, sender_id: str) -> ReplyTarget:
    chat_id = as_id(payload, "conversationId")
    if not chat_id and chat_type == "group":
        missing("conversationId")
    return ReplyTarget(
        chat_id=chat_id or sender_id,
        chat_type=chat_type,
        message_id=as_id(payload, "msgId"),
        sender_id=staff_id,
        webhook_url=session_url(as_text(payload.get("sessionWebhook")), credentials.oapi_url),
        webhook_expires_at_s=epoch_s(payload.get("sessionWebhookExpiredTime")),
        sender_name=as_text(payload.get("senderNick"))[:MAX_NAME_CHARS],
    )
