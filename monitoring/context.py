"""Who acts, from where, in which request: bound once at the door, read wherever an entry is written.

Kept in context variables, which asgiref carries over into threads and back. The person behind a Django request is
looked up only when somebody asks: DRF signs in late, and most requests never need to know.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from monitoring.client_ip import client_ip
from monitoring.ids import uuid7

if TYPE_CHECKING:
    from django.http import HttpRequest

ActorKind = Literal["user", "client", "system", "platform", "anonymous"]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

WELL_FORMED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. An object that stands for a caller (an API client, a token) may carry one as ``audit_actor``."""

    kind: ActorKind
    id: str = ""
    label: str = ""


SYSTEM: Final = Actor("system")
ANONYMOUS: Final = Actor("anonymous")


@dataclass(frozen=True, slots=True)
class Context:
    request_id: str = ""
    address: str = ""
    bound_actor: Actor | None = None
    request: HttpRequest | None = None
    nobody: Actor = SYSTEM  # who acts when neither tells

    @property
    def actor(self) -> Actor:
        """Who acts: the bound actor, else the request's user (one query at most), else nobody in particular."""
        if self.bound_actor is not None:
            return self.bound_actor
        return actor_of(self.request) if self.request is not None else self.nobody


OUTSIDE: Final = Context()
_current: ContextVar[Context] = ContextVar("monitoring_context", default=OUTSIDE)


def current() -> Context:
    return _current.get()


@contextmanager
def bind(
    *,
    request_id: str | None = None,
    actor: Actor | None = None,
    address: str | None = None,
    request: HttpRequest | None = None,
    nobody: Actor | None = None,
) -> Iterator[Context]:
    """Set what is given for the block, keep the rest. A bound actor wins over the request's user."""
    given: dict[str, Any] = {"request_id": request_id, "bound_actor": actor, "address": address}
    given |= {"request": request, "nobody": nobody}
    known = {name: value for name, value in given.items() if value is not None}
    token = _current.set(replace(_current.get(), **known))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def actor_of(request: HttpRequest) -> Actor:
    """Return who is signed in on this request right now; DRF writes ``user`` and ``auth`` onto it as well."""
    user = getattr(request, "user", None)
    for principal in (getattr(request, "auth", None), user):
        actor = getattr(principal, "audit_actor", None)
        if isinstance(actor, Actor):
            return actor
    if user is None or not user.is_authenticated:
        return ANONYMOUS
    return Actor("user", str(user.pk), user.get_username())


def request_id_from(given: str) -> str:
    """Keep a well-formed id that the caller sent, else make one: callers' text must not forge log lines."""
    return given if WELL_FORMED_ID.fullmatch(given) else uuid7().hex


class RequestContext:
    """ASGI: binds request id and client address around the application, and answers with ``X-Request-Id``.

    Outside of any request the system acts; inside, nobody does until a user is found or a consumer binds its actor.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        sent = dict(scope.get("headers", ())).get(b"x-request-id", b"").decode("latin-1")
        with bind(request_id=request_id_from(sent), address=client_ip(scope), nobody=ANONYMOUS) as context:
            return await self.app(scope, receive, _answering(send, context.request_id))


def _answering(send: Send, request_id: str) -> Send:
    async def send_with_id(message: MutableMapping[str, Any]) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
        await send(message)

    return send_with_id
