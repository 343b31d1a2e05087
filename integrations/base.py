"""The border between ClawdBot and a chat platform: values that cross it, and the interface of an adapter.

Plain Python: knows no bot, no engine, no Django model. Raw payloads never leave a platform's own folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, final

from integrations.checking import NO_WAY_IN, Finding, WayIn
from integrations.errors import AuthenticationError, PlatformError

if TYPE_CHECKING:
    from integrations.listening import LongConnection  # which speaks of the values below

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


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a delivery that leaves a trace: written before the call, completed after it."""

    name: str
    key: str  # the idempotency key given to the platform, at most 50 characters
    state: Literal["intended", "done", "refused"]
    first_tried_at_s: float
    remote_id: str = ""
    is_new: bool = False  # this holder wrote it just now: no earlier try can be under way


SIGN_STEPS: Final = frozenset({"typing"})  # steps that show a sign of work, and nothing of the answer


class Journal(Protocol):
    """The durable memory of one reply's delivery. What was intended is committed before the call; what
    is done is committed with what follows, the next intent or the end."""

    reply_id: str
    fence: int  # 1 for the first worker that holds this reply, then rising: a late holder has a lower one

    def find(self, name: str) -> Step | None: ...

    def intend(self, name: str) -> Step:
        """Note that the call ``name`` is about to be made; the same key comes back for a repeated name."""

    def done(self, name: str, remote_id: str = "") -> None: ...

    def refused(self, name: str, reason: str) -> None: ...


class TokenStore(Protocol):
    """Access tokens, shared by all processes. ``lock`` is held by one of them at a time, so that one fetches."""

    def get(self, key: str) -> str | None: ...

    def set(self, key: str, value: str, ttl_s: float) -> None: ...

    def delete(self, key: str) -> None: ...

    def lock(self, key: str) -> AbstractContextManager[object]: ...


class ReplyStream(ABC):
    """An open reply. Used by one thread; ``show`` may be skipped by the caller, ``finish`` may not."""

    interval_s: ClassVar[float] = 1.0  # the platform's pace: the least time between two ``show``
    shows_typing: bool = False  # whether ``begin`` does anything: where not, nobody waits for it

    def begin(self) -> None:  # noqa: B027  (most have no such sign)
        """Show that the bot is at work, where nothing of the answer can be shown yet ("Typing").

        Called once, before any other call, when a worker begins to answer. Safe to repeat by another process.
        Raises PlatformError, which only costs the sign.
        """

    def abandon(self, text: str) -> None:  # noqa: B027  (most leave nothing open)
        """Close what is still open of a reply that nobody will finish, showing ``text``. Raises PlatformError."""

    def close(self) -> None:  # noqa: B027  (most have no such sign)
        """Take that sign away. Called once at the end, also of an answer that nobody will see. Raises nothing."""

    @abstractmethod
    def show(self, text: str) -> None:
        """Make the whole text so far visible, as Markdown. Raises PlatformError; a later call repairs a lost one."""

    @abstractmethod
    def finish(self, text: str) -> None:
        """Make the final text visible and close what is open. Returns when the platform confirmed it.

        Safe to call again, by another process too: the journal tells what is done. Raises PlatformError (``permanent``
        when no retry helps) and OutcomeUnknown.
        """


class Adapter(ABC):
    """One chat platform."""

    platform: ClassVar[str]
    signature_headers: ClassVar[frozenset[str]] = frozenset()  # in lower case; with one of them, a body must be JSON
    pins_company: ClassVar[bool] = False  # whether the first authentic message fixes the company: bodies are unsigned

    @final
    def receive(self, request: WebhookRequest, credentials: Credentials) -> Inbound:
        """Authenticate, then parse, in that order for every platform. Raises AuthenticationError, PayloadError."""
        try:
            payload = self.open(request, credentials)
        except AuthenticationError:
            if credentials.other is None:
                raise
            return self.receive(request, credentials.other)
        return payload if isinstance(payload, Challenge | Ignored) else self.parse(payload, credentials)

    @final
    def proven(self, request: WebhookRequest, credentials: Credentials) -> Credentials:
        """Of two that are believed, those by which this request was ``receive``d."""
        if credentials.other is None:
            return credentials
        try:
            self.open(request, credentials)
        except AuthenticationError:
            return credentials.other
        return credentials

    @abstractmethod
    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any] | Challenge | Ignored:
        """Check one JSON object, signature, decryption, token and freshness; return the authentic payload."""

    @abstractmethod
    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        """Turn an authentic payload into a value. Unknown kinds are Ignored or ``unsupported``, never an error."""

    @abstractmethod
    def open_reply(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        journal: Journal,
        *,
        streaming: bool,
        buttons: Buttons = NO_BUTTONS,
    ) -> ReplyStream:
        """A reply to ``target``; makes no call yet. Without ``streaming``, only ``finish`` makes anything visible.

        ``buttons`` are for cards; a reply that is none leaves them out.
        """

    @abstractmethod
    def push(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        text: str,
        journal: Journal,
        *,
        is_markdown: bool = True,
    ) -> None:
        """Send a text to a chat (``chat_id``) or, with that empty, a person (``sender_id``). Errors as ``finish``.

        One that is no Markdown is shown as it is, sign for sign.
        """

    def acknowledge(
        self, request: WebhookRequest, credentials: Credentials, shown: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The body of the 200 for an event that was taken or ignored. ``shown``: of a pressed button, else empty."""
        return shown

    def shown(self, action: CardAction, toast: Toast) -> Mapping[str, Any]:
        """What the platform wants to hear of a pressed button: what ``acknowledge`` gets, or ``Deliver`` returns."""
        return {}

    def fetch_attachment(self, credentials: Credentials, attachment: Attachment, *, most_bytes: int) -> Fetched:
        """Download a file. Blocks, for a worker. Raises PlatformError: TooLarge for more than ``most_bytes``."""
        raise PlatformError(f"files of {self.platform} cannot be fetched", permanent=True)

    def fetch_quoted(self, credentials: Credentials, message_id: str, target: ReplyTarget) -> Quoted | None:
        """What the message ``message_id`` of this chat says; None where that cannot be told. Raises PlatformError."""
        return None

    def credential_faults(self, entered: Mapping[str, str], held: Collection[str]) -> Mapping[str, str]:
        """What is wrong with an app's secrets, by field, in words for an admin; asked before they are stored.

        ``entered`` are those given now, empty where none is; ``held`` names those that there will be.
        """
        return {}

    def streaming_obstacle(self, credentials: Credentials) -> Finding | None:
        """Why answers cannot grow while they are written, told from the credentials alone; None where they can."""
        return None

    def departments_of(self, credentials: Credentials, user_id: str) -> frozenset[str]:
        """The ids of the departments that a person is in, and of those above them. Raises PlatformError."""
        return frozenset()

    def fetch_own_id(self, credentials: Credentials) -> str:
        """The bot's own id on the platform, empty where the platform does not need it. Raises PlatformError."""
        return ""

    def check(self, credentials: Credentials, way_in: WayIn = NO_WAY_IN) -> list[Finding]:
        """What the platform says about the app, by calls that change nothing and take 15 s at most. Never raises.

        ``way_in`` is what its console should have.
        """
        return []

    def prove_secret(self, credentials: Credentials) -> None:  # noqa: B027  (a platform without one proves nothing)
        """Sign in to the platform anew with this app secret, in 15 s at most. Raises PlatformError."""

    def connect(self, credentials: Credentials) -> LongConnection:
        """The app's long connection, not yet open. Raises PlatformError where the platform has none."""
        raise PlatformError(f"{self.platform} has no long connection; choose webhook", permanent=True)
