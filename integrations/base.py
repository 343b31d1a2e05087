"""The interface of a platform's adapter, and what it is lent: a journal, a store of tokens. Values: ``values.py``.

Plain Python: knows no bot, no engine, no Django model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, final

from integrations.checking import NO_WAY_IN, Finding, WayIn
from integrations.errors import AuthenticationError, PlatformError
from integrations.listening import LongConnection
from integrations.values import (
    NO_BUTTONS,
    Attachment,
    Buttons,
    CardAction,
    Challenge,
    Credentials,
    Fetched,
    Ignored,
    Inbound,
    Quoted,
    ReplyTarget,
    Toast,
    WebhookRequest,
)


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
