"""What crosses the border between ClawdBot and a chat platform, as plain values.

Plain Python: knows no bot, no engine, no Django model. Raw payloads never leave a platform's own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

ChatType = Literal["direct", "group"]
Vote = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """One app on one platform, as plain values. ``own_id`` is the bot's id on the platform, empty until learned."""

    id: str
    platform: str
    app_id: str
    api_url: str  # no trailing slash
    oapi_url: str = ""  # DingTalk's second host
    app_secret: str = field(default="", repr=False)
    verification_token: str = field(default="", repr=False)
    encrypt_key: str = field(default="", repr=False)
    robot_code: str = ""
    corp_id: str = ""
    card_template_id: str = ""
    own_id: str = ""
    allow_unsigned: bool = False
    callback_url: str = field(default="", repr=False)  # where the platform posts to; empty with a long connection
    other: Credentials | None = field(default=None, repr=False)  # believed as well, while a secret is being changed
    is_next: bool = False  # those that are to replace the present ones


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A callback as it came: header names in lower case, the body untouched, the arrival as Unix time.

    ``query`` is what stands behind the ``?`` of the address, decoded; of a repeated name the last value.
    """

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at_s: float
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mention:
    """Somebody named in a text: the token that stands for them in it, their id, and the name people see."""

    token: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message.

    ``key`` is opaque: the platform's parser packs into it whatever its ``fetch_attachment`` needs. It is stored with
    the message, so it holds no secret. ``size_bytes`` is 0 where the platform does not tell it.
    """

    kind: Literal["image", "file", "audio", "video"]
    key: str
    name: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an attachment. ``media_type`` is what the platform says of them; nobody should believe it."""

    data: bytes = field(repr=False)
    media_type: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Quoted:
    """The message that another one answers to.

    ``is_complete`` means that the platform sent along what it says; otherwise ``Adapter.fetch_quoted`` is asked for
    it when the question is answered. ``is_own``: the bot said it.
    """

    message_id: str
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    sender_name: str = ""
    is_own: bool = False
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class ReplyTarget:
    """Where an answer goes. ``webhook_url`` is DingTalk's session address, a secret in itself."""

    chat_id: str
    chat_type: ChatType
    message_id: str = ""
    sender_id: str = ""
    thread_id: str = ""
    webhook_url: str = field(default="", repr=False)
    webhook_expires_at_s: float = 0.0
    sender_name: str = ""

    def without_secret(self) -> dict[str, Any]:
        """What is kept with a message in clear."""
        return {name: getattr(self, name) for name in _TARGET_IN_CLEAR}


_TARGET_IN_CLEAR: Final = tuple(one.name for one in fields(ReplyTarget) if one.name != "webhook_url")


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A person's message, authenticated and parsed.

    ``message_id`` is the platform's own and is what repeats are recognised by. ``text`` still holds the tokens of
    ``mentions``; stickers, locations, cards and merged forwards are put into words in it. ``kind`` is ``text`` when
    there is something to answer (a text, or attachments that can be fetched), ``unsupported`` when only a polite word
    helps. ``is_addressed`` is None where only the bot's own id, not known yet, can tell. Neither platform tells of
    an edited message.
    """

    message_id: str
    text: str
    sender_id: str
    target: ReplyTarget
    kind: Literal["text", "unsupported"] = "text"
    sender_name: str = ""
    mentions: tuple[Mention, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    is_addressed: bool | None = True
    sent_at_s: float = 0.0
    tenant_id: str = ""  # the company the message belongs to, where the platform names it (pinned by the caller)
    quoted: Quoted | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A person took a message back."""

    message_id: str


@dataclass(frozen=True, slots=True)
class BotAdded:
    """The bot was put into a group. ``event_id`` tells a repeat from the bot's coming back."""

    chat_id: str
    event_id: str
    chat_name: str = ""
    user_id: str = ""  # who did it


@dataclass(frozen=True, slots=True)
class BotRemoved:
    """The bot was taken out of a group, or the group was dissolved: nothing can be said there any more."""

    chat_id: str


@dataclass(frozen=True, slots=True)
class ChatOpened:
    """A person opened the direct chat with the bot. Comes at every opening; only the first one is welcomed."""

    chat_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class MenuClicked:
    """A person chose an item of the bot's menu. ``key`` is what the admin wrote there: a command or a question."""

    key: str
    user_id: str
    event_id: str
    user_name: str = ""
    sent_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reaction:
    """A person put a thumb under a message, or (``is_removed``) took it away. Others' reactions are Ignored."""

    message_id: str
    user_id: str
    vote: Vote
    is_removed: bool = False


@dataclass(frozen=True, slots=True)
class CardAction:
    """A person pressed a button of a card.

    ``value`` is the button's own, as ``open_reply`` was given it; empty where a card template cannot carry it: then
    ``card_id`` (the remote id or the key of a journal's step) names the card, and ``button`` the button.
    """

    user_id: str
    value: str = ""
    card_id: str = ""
    button: Literal["", "stop", "up", "down"] = ""
    chat_id: str = ""


@dataclass(frozen=True, slots=True)
class Toast:
    """What a person who pressed a button is told at once. ``vote`` is theirs now, for cards that can show it."""

    text: str
    kind: Literal["success", "info", "warning", "error"] = "success"
    vote: Vote | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """The platform tests the address; ``answer`` is the JSON object it wants back. Nothing else may happen."""

    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine event that asks nothing of us; ``reason`` is for the log and the metrics."""

    reason: str


Inbound = (
    IncomingMessage
    | Recalled
    | BotAdded
    | BotRemoved
    | ChatOpened
    | MenuClicked
    | Reaction
    | CardAction
    | Challenge
    | Ignored
)


@dataclass(frozen=True, slots=True)
class Button:
    """``value`` is opaque and comes back as ``CardAction.value``: put it into the card as it is."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Buttons:
    """The buttons of one reply's card. ``stop`` stands there while the answer grows, the others once it is complete."""

    stop: Button | None = None
    up: Button | None = None
    down: Button | None = None


NO_BUTTONS = Buttons()
