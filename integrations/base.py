"""The border between ClawdBot and a chat platform: values that cross it, and the interface of an adapter.

Plain Python: knows no bot, no engine, no Django model. Raw payloads never leave a platform's own folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, final

from integrations.checking import Finding
from integrations.errors import PlatformError

if TYPE_CHECKING:
    from integrations.listening import LongConnection  # which speaks of the values below

ChatType = Literal["direct", "group"]


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


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A callback as it came: header names in lower case, the body untouched, the arrival as Unix time."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at_s: float


@dataclass(frozen=True, slots=True)
class Mention:
    """Somebody named in a text: the token that stands for them in it, their id, and the name people see."""

    token: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message; ``key`` fetches it from the platform."""

    kind: Literal["image", "file", "audio", "video"]
    key: str
    name: str = ""


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


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A person's message, authenticated and parsed.

    ``message_id`` is the platform's own and is what repeats are recognised by. ``text`` still holds the tokens of
    ``mentions``. ``kind`` is ``text`` when there is something to answer, ``unsupported`` when only a polite word
    helps. ``is_addressed`` is None where only the bot's own id, not known yet, can tell.
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


@dataclass(frozen=True, slots=True)
class Recalled:
    """A person took a message back."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """The platform tests the address; ``answer`` is the JSON object it wants back. Nothing else may happen."""

    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine event that asks nothing of us; ``reason`` is for the log and the metrics."""

    reason: str


Inbound = IncomingMessage | Recalled | Challenge | Ignored


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a delivery that leaves a trace: written before the call, completed after it."""

    name: str
    key: str  # the idempotency key given to the platform, at most 50 characters
    state: Literal["intended", "done", "refused"]
    first_tried_at_s: float
    remote_id: str = ""
    is_new: bool = False  # this holder wrote it just now: no earlier try can be under way


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

    @final
    def receive(self, request: WebhookRequest, credentials: Credentials) -> Inbound:
        """Authenticate, then parse, in that order for every platform. Raises AuthenticationError, PayloadError."""
        payload = self.open(request, credentials)
        return payload if isinstance(payload, Challenge | Ignored) else self.parse(payload, credentials)

    @abstractmethod
    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any] | Challenge | Ignored:
        """Check one JSON object, signature, decryption, token and freshness; return the authentic payload."""

    @abstractmethod
    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        """Turn an authentic payload into a value. Unknown kinds are Ignored or ``unsupported``, never an error."""

    @abstractmethod
    def open_reply(
        self, credentials: Credentials, target: ReplyTarget, journal: Journal, *, streaming: bool
    ) -> ReplyStream:
        """A reply to ``target``; makes no call yet. Without ``streaming``, only ``finish`` makes anything visible."""

    @abstractmethod
    def push(self, credentials: Credentials, target: ReplyTarget, text: str, journal: Journal) -> None:
        """Send Markdown to a chat (``chat_id``) or, with that empty, a person (``sender_id``). Errors as ``finish``."""

    def fetch_own_id(self, credentials: Credentials) -> str:
        """The bot's own id on the platform, empty where the platform does not need it. Raises PlatformError."""
        return ""

    def check(self, credentials: Credentials) -> list[Finding]:
        """What the platform says about the app, by calls that change nothing and take 15 s at most. Never raises."""
        return []

    def connect(self, credentials: Credentials) -> LongConnection:
        """The app's long connection, not yet open. Raises PlatformError where the platform has none."""
        raise PlatformError(f"{self.platform} has no long connection; choose webhook", permanent=True)
