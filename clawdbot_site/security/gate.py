"""The door: every HTTP request and WebSocket passes here before anything reads it. It looks at address and headers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import MutableMapping
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError

from clawdbot_site.security import rule_book
from clawdbot_site.security.areas import PROBES, TOKENS, area_of, body_limit
from clawdbot_site.security.pace import Pace
from clawdbot_site.security.refusals import (
    BAD_HEADER,
    FORBIDDEN,
    MANY_HEADERS,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    Answer,
    refuse,
    too_often,
)
from clawdbot_site.security.rule_book import RuleBook
from monitoring.client_ip import client_ip, is_own
from monitoring.context import ASGIApp, Receive, RequestContext, Send, current

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]

MAX_HEADERS: Final = 128
MAX_HEADER_BYTES: Final = 64 * 1024
SINGLE_HEADERS: Final = frozenset({b"host", b"content-length", b"authorization"})
CUT: Final = {"too large": TOO_LARGE, "too slow": TOO_SLOW}  # by port.py
BODIES: Final = {TOO_LARGE: "size: the body is too large", TOO_SLOW: "time: the body came too slowly"}


def admits_to_endpoint(scope: Scope, endpoint_id: UUID) -> bool:
    """Whether the endpoint's own rules let this caller in, for the webhook door, which alone knows the endpoint."""
    address = scope.get("clawdbot.client_ip", "")
    if not rule_book.rules.knows_endpoint(endpoint_id):
        return True
    decision = rule_book.rules.decide(address, "webhooks", endpoint_id)
    if not decision.allowed:
        label = f"endpoint {endpoint_id} {decision.rule_id or ''}".strip()
        rule_book.rules.note("network.refused", label, decision.reason, address)
    return decision.allowed


class _BodyTooLarge(Exception):
    """More came than the limit allows and than was announced."""


class Gate:
    """Decides from address and headers, before the body is read, whether a visit goes on (rules N2, N3, N6).

    Puts ``clawdbot.client_ip`` into the scope. The request id is bound by RequestContext, in front of this or, when
    nobody did, here.
    """

    def __init__(self, app: ASGIApp, book: RuleBook | None = None) -> None:
        self.app = app
        self.book = book or rule_book.rules
        self._visits, self._tokens = Pace(), Pace()
        self._with_context = RequestContext(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        else:
            await (self._judge if current().request_id else self._with_context)(scope, receive, send)

    async def _judge(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope["clawdbot.client_ip"] = client_ip(scope)
        area = area_of(scope["path"])
        refusal = (
            await self._network_refusal(address, area, scope["path"])
            or self._pace_refusal(address, area, scope["path"])
            or _refusal_of(scope, area)
        )
        if refusal:
            self._note(refusal, area, address)
            await refuse(refusal, area, scope, receive, send)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._with_limit(scope, receive, send, area)

    def _note(self, refusal: Answer, area: str, address: str) -> None:
        """Who forges callbacks tries large and slow ones, too."""
        if area == "webhooks" and refusal in BODIES:
            self.book.note("webhook.rejected", area, BODIES[refusal], address)

    async def _network_refusal(self, address: str, area: str, path: str) -> Answer | None:
        if not await self._is_ready():
            return None if path.rstrip("/") in PROBES else UNAVAILABLE
        decision = self.book.decide(address, area)
        if decision.allowed:
            return None
        self.book.note("network.refused", f"{area} {decision.rule_id or ''}".strip(), decision.reason, address)
        return FORBIDDEN

    def _pace_refusal(self, address: str, area: str, path: str) -> Answer | None:
        """Callbacks are not counted here: platforms send many, and their endpoints have a limit of their own."""
        if area == "webhooks":
            return None
        wait_s = self._visits.wait_s(address, settings.REQUESTS_PER_MINUTE)
        if not wait_s and path.startswith(TOKENS):
            wait_s = self._tokens.wait_s(address, settings.TOKEN_REQUESTS_PER_MINUTE)
        if not wait_s or is_own(address):
            return None
        self.book.note("network.refused", area, "too many requests", address)
        return too_often(wait_s)

    async def _is_ready(self) -> bool:
        if not self.book.is_loaded:
            try:
                await sync_to_async(self.book.load)()
            except DatabaseError:
                logger.warning("network rules not read at the first visit", exc_info=True)
        self.book.start()
        return self.book.is_loaded

    async def _with_limit(self, scope: Scope, receive: Receive, send: Send, area: str) -> None:
        """Also count what really comes: a chunked body announces no length."""
        left = body_limit(area)
        is_answered = False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _BodyTooLarge
            return message

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self.app(scope, counted, noting)
        except _BodyTooLarge:
            if is_answered:
                raise
            self._note(TOO_LARGE, area, scope["clawdbot.client_ip"])
            await refuse(TOO_LARGE, area, scope, receive, send)


def _refusal_of(scope: Scope, area: str) -> Answer | None:
    """For the request itself: what the port did not read to its end, and bad headers."""
    if cut := scope.get("clawdbot.cut"):
        return CUT[cut]
    headers = [(name.lower(), value) for name, value in scope.get("headers", ())]
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        return MANY_HEADERS
    counts = Counter(name for name, _value in headers if name in SINGLE_HEADERS)
    length = dict(headers).get(b"content-length", b"0").strip()
    if any(count > 1 for count in counts.values()) or not length.isdigit():
        return BAD_HEADER
    is_too_large = len(length) > 12 or int(length) > body_limit(area)
    return TOO_LARGE if is_too_large else None
