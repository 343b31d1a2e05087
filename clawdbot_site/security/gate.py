"""The door: every HTTP request and WebSocket passes here before anything reads it. Looks at address and headers only.

Rules are kept in memory and follow the database within about a second (rule N5); while it cannot be reached the last
good ones stay. Counts and audit entries are written by the same background thread that fetches the rules, so a
refusal costs its visitor a look into a dictionary and us no query.
"""

from __future__ import annotations

import html
import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import Count, F, Sum
from django.utils import timezone

from clawdbot_site.security.ip_rules import Decision, Rule, RuleSet, compile
from clawdbot_site.security.models import IPRule
from monitoring import audit
from monitoring.client_ip import client_ip
from monitoring.context import ANONYMOUS, ASGIApp, Receive, RequestContext, Send, bind, current

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]

POLL_S: Final = 1.0
FLUSH_S: Final = 5.0
BATCH_S: Final = 0.05  # a flood of refusals wakes the thread, but not for each
RELOAD_S: Final = 60.0  # even if nothing seems changed
MAX_WAITING_REFUSALS: Final = 10_000
WEBHOOK_BODY_BYTES: Final = 1024 * 1024
OTHER_BODY_BYTES: Final = 10 * 1024 * 1024
MAX_HEADERS: Final = 128
MAX_HEADER_BYTES: Final = 64 * 1024
SINGLE_HEADERS: Final = frozenset({b"host", b"content-length", b"authorization"})
REFUSED_SOCKET: Final = 4403

# The first prefix that fits decides which rules apply besides the site's.
AREAS: Final = (
    ("/webhooks/", "webhooks"),
    ("/api/v1/hooks/", "webhooks"),
    ("/admin/", "admin"),
    ("/api/", "api"),
    ("/v1/", "api"),
    ("/ws/", "api"),
)
PROBES: Final = frozenset({"/livez", "/readyz"})


def area_of(path: str) -> str:
    """Which rules apply to a path: its own area's, or only the site's (pages, probes, metrics, keys)."""
    whole = path if path.endswith("/") else f"{path}/"
    return next((area for prefix, area in AREAS if whole.startswith(prefix)), "site")


# -- the rules in memory --


@dataclass(frozen=True, slots=True)
class _Refusal:
    action: str
    label: str
    reason: str
    address: str
    request_id: str


Revision = tuple[int, int]


def read_revision() -> Revision:
    """Changes whenever any rule does: each save draws a random number for its row (see IPRule.revision)."""
    found = IPRule.objects.aggregate(rows=Count("pk"), drawn=Sum("revision"))
    return found["rows"], found["drawn"] or 0


def read_rules() -> list[Rule]:
    return IPRule.objects.all().compiled_form()


class RuleBook:
    """The rules of this process, followed by a background thread that starts at the first visit.

    ``read`` and ``revision`` ask the database; tests give others.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Rule]] = read_rules,
        revision: Callable[[], Revision] = read_revision,
        poll_s: float = POLL_S,
    ) -> None:
        self._read, self._revision, self._poll_s = read, revision, poll_s
        self._rules: RuleSet | None = None
        self._known: Revision | None = None
        self._read_at = self._looked_at = self._flushed_at = 0.0
        self._is_asked = False
        self._hits: Counter[str] = Counter()
        self._refusals: deque[_Refusal] = deque(maxlen=MAX_WAITING_REFUSALS)
        self._lock, self._wake, self._stopped = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_loaded(self) -> bool:
        return self._rules is not None

    def decide(self, address: str, area: str, endpoint_id: UUID | None = None) -> Decision:
        """The verdict on a visit, from memory; counts the rule's hit. ``load`` must have succeeded once."""
        if self._rules is None:
            raise LookupError("the rules were never read")
        decision = self._rules.decide(address, area, endpoint_id)
        if decision.rule_id:
            with self._lock:
                self._hits[decision.rule_id] += 1
        return decision

    def knows_endpoint(self, endpoint_id: UUID) -> bool:
        """Whether any rule names this endpoint; if none does, the gate in front has decided already."""
        return self._rules is not None and ("webhooks", endpoint_id) in self._rules.lists

    def load(self) -> None:
        """Read the rules if they changed. Raises DatabaseError."""
        self._is_asked, self._looked_at = False, time.monotonic()
        revision = self._revision()  # before the rules: a change in between is seen at the next look
        if revision != self._known or time.monotonic() - self._read_at > RELOAD_S:
            self._rules = compile(self._read())
            self._known, self._read_at = revision, time.monotonic()

    def changed(self) -> None:
        """This process changed a rule: look now, here or in the background."""
        if self.is_running:
            self._is_asked = True
            self._wake.set()
        elif self.is_loaded:
            self.load()

    def note_refusal(self, area: str, decision: Decision, address: str, request_id: str) -> None:
        """Have the refusal written to the audit log (with flood control) by the background thread."""
        label = f"{area} {decision.rule_id or ''}".strip()
        self._note(_Refusal("network.refused", label, decision.reason, address, request_id))

    def note_size(self, area: str, address: str, request_id: str) -> None:
        """The same for a callback that was too large: who forges callbacks tries that, too."""
        if area == "webhooks":
            self._note(_Refusal("webhook.rejected", area, "size: the body is too large", address, request_id))

    def _note(self, refusal: _Refusal) -> None:
        self._refusals.append(refusal)
        self._wake.set()

    def flush(self) -> None:
        """Write what waits in memory: audit entries, then hit counts."""
        while self._refusals:
            _audit(self._refusals.popleft())
        audit.write_overdue()
        if time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush_hits()

    def flush_hits(self) -> None:
        self._flushed_at = time.monotonic()
        with self._lock:
            hits, self._hits = self._hits, Counter()
        try:
            for rule_id, count in sorted(hits.items()):
                IPRule.objects.filter(pk=rule_id).update(hits=F("hits") + count, last_hit_at=timezone.now())
                hits[rule_id] = 0
        finally:
            with self._lock:
                self._hits.update({rule_id: count for rule_id, count in hits.items() if count})

    # -- the background thread --

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        with self._lock:
            if not self.is_running and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._follow, name="network-rules", daemon=True)
                self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread after a last flush. A later ``start`` does nothing."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(self._poll_s)
            self._wake.clear()
            self._turn()
            self._stopped.wait(BATCH_S)
        self._flushed_at = 0.0
        self._turn()
        connection.close()

    def _turn(self) -> None:
        try:
            close_old_connections()
            if self._is_asked or time.monotonic() - self._looked_at >= self._poll_s:
                self.load()
            self.flush()
        except DatabaseError:
            logger.warning("network rules not read, the last good ones stay", exc_info=True)
            connection.close()
            self._stopped.wait(self._poll_s)
        except Exception:
            logger.exception("network rules not followed")
            self._stopped.wait(self._poll_s)


def _audit(refusal: _Refusal) -> None:
    with bind(request_id=refusal.request_id, address=refusal.address, actor=ANONYMOUS):
        audit.record_refusal(refusal.action, target_label=refusal.label, reason=refusal.reason)


rules = RuleBook()


def rules_changed(**kwargs: object) -> None:
    """Receiver of IPRule's signals, after the change is committed."""
    transaction.on_commit(rules.changed, robust=True)


def admits_to_endpoint(scope: Scope, endpoint_id: UUID) -> bool:
    """Whether the endpoint's own rules let this caller in, for the webhook door, which alone knows the endpoint."""
    address = scope.get("clawdbot.client_ip", "")
    if not rules.knows_endpoint(endpoint_id):
        return True
    decision = rules.decide(address, "webhooks", endpoint_id)
    if not decision.allowed:
        rules.note_refusal(f"endpoint {endpoint_id}", decision, address, current().request_id)
    return decision.allowed


# -- the ASGI application in front of all others --


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    code: str
    message: str


FORBIDDEN = _Answer(403, "address_refused", "Calls from your network address are not allowed here.")
TOO_LARGE = _Answer(413, "too_large", "The request body is too large.")
BAD_HEADER = _Answer(400, "bad_request", "A header is malformed or given twice.")
MANY_HEADERS = _Answer(431, "headers_too_large", "The request has too many or too long headers.")
UNAVAILABLE = _Answer(503, "unavailable", "The database cannot be reached. Try again in a moment.")


class _BodyTooLarge(Exception):
    """More came than the limit allows and than was announced."""


class Gate:
    """Decides from address and headers, before the body is read, whether a visit goes on (rules N2, N3, N6).

    Puts ``clawdbot.client_ip`` into the scope. The request id is bound by RequestContext, in front of this or, when
    nobody did, here.
    """

    def __init__(self, app: ASGIApp, book: RuleBook | None = None) -> None:
        self.app = app
        self.book = book or rules
        self._with_context = RequestContext(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        else:
            await (self._judge if current().request_id else self._with_context)(scope, receive, send)

    async def _judge(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope["clawdbot.client_ip"] = client_ip(scope)
        area = area_of(scope["path"])
        refusal = await self._network_refusal(address, area, scope["path"]) or _header_refusal(scope, area)
        if refusal:
            if refusal is TOO_LARGE:
                self.book.note_size(area, address, current().request_id)
            await _refuse(refusal, area, scope, receive, send)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._with_limit(scope, receive, send, area)

    async def _network_refusal(self, address: str, area: str, path: str) -> _Answer | None:
        if not await self._is_ready():
            return None if path.rstrip("/") in PROBES else UNAVAILABLE
        decision = self.book.decide(address, area)
        if decision.allowed:
            return None
        self.book.note_refusal(area, decision, address, current().request_id)
        return FORBIDDEN

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
        left = _body_limit(area)
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
            self.book.note_size(area, scope["clawdbot.client_ip"], current().request_id)
            await _refuse(TOO_LARGE, area, scope, receive, send)


def _body_limit(area: str) -> int:
    return WEBHOOK_BODY_BYTES if area == "webhooks" else OTHER_BODY_BYTES


def _header_refusal(scope: Scope, area: str) -> _Answer | None:
    headers = [(name.lower(), value) for name, value in scope.get("headers", ())]
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        return MANY_HEADERS
    counts = Counter(name for name, _value in headers if name in SINGLE_HEADERS)
    length = dict(headers).get(b"content-length", b"0").strip()
    if any(count > 1 for count in counts.values()) or not length.isdigit():
        return BAD_HEADER
    is_too_large = len(length) > 12 or int(length) > _body_limit(area)
    return TOO_LARGE if is_too_large else None


async def _refuse(answer: _Answer, area: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the connect, which the protocol has come first
        await send({"type": "websocket.close", "code": REFUSED_SOCKET})
        return
    kind, body = _page(answer) if area in ("admin", "site") else _json(answer)
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _json(answer: _Answer) -> tuple[bytes, bytes]:
    error = {"code": answer.code, "message": answer.message, "request_id": current().request_id}
    return b"application/json", json.dumps({"error": error}).encode()


def _page(answer: _Answer) -> tuple[bytes, bytes]:
    text = html.escape(f"{answer.message} ({current().request_id})")
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{answer.status}</title><p>{text}</p></html>"
    return b"text/html; charset=utf-8", page.encode()
