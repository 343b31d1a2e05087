"""The platforms' door: one ASGI application ahead of Django's own handler.

A Django view behind an ASGI server costs five to seven times more per request (measured), a Channels consumer three
times (it opens a channel for each request). Here a callback of a known address is authenticated and parsed right in
the event loop, about 0.2 ms, and then waits for the writer's commit. What needs the database goes to a thread.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from asgiref.sync import SyncToAsync
from django.db import DatabaseError, InterfaceError

from bots import connections, inbound, intake, limits, places
from bots.errors import NotStored
from bots.models import Endpoint
from bots.places import Place
from clawdbot_site.security import gate, suspects
from integrations import secret_change
from integrations.base import Adapter
from integrations.errors import AuthenticationError, PayloadError
from integrations.models import Platform
from integrations.registry import adapter_for
from integrations.values import Challenge, Credentials, Inbound, WebhookRequest
from monitoring import audit, metrics
from monitoring.context import Receive, Send, current

logger = logging.getLogger(__name__)
PATH: Final = re.compile(r"^/webhooks/(?P<platform>[a-z]{1,20})/(?P<key>[\w-]{1,200})/?$")
MOST_BYTES: Final = 1024 * 1024
SMALL_BYTES: Final = 32 * 1024  # opened in the event loop; a larger body would hold up the others
_threads = ThreadPoolExecutor(4, thread_name_prefix="webhook")
_counters = ThreadPoolExecutor(4, thread_name_prefix="webhook-limit")  # a hanging Redis holds up these alone


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Mapping[str, Any]
    outcome: str  # for the metrics
    retry_after_s: int = 0
    suspicion: str = ""  # for the audit log


def refusal(status: int, code: str, message: str, retry_after_s: int = 0, suspicion: str = "") -> Answer:
    error = {"code": code, "message": message, "request_id": current().request_id}
    return Answer(status, {"error": error}, code, retry_after_s, suspicion)


NO_QUERY: Final[Mapping[str, str]] = {}
NO_ADDRESS: Final = (404, "not_found", "There is no such address, or it is disabled.")


async def webhooks(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Takes ``POST /webhooks/<platform>/<key>`` with and without the last slash, never redirecting."""
    started = time.monotonic()
    found = PATH.match(scope["path"])
    body = await _body(receive)
    if body is None:
        return
    answer = await _answer(scope, found, body)
    platform = found["platform"] if found and found["platform"] in Platform else "unknown"
    metrics.webhook(platform, answer.outcome, time.monotonic() - started)
    await _send(answer, send)


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or its beginning when it is too long; None when the caller left."""
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event.get("body", b"")
        if not event.get("more_body") or len(body) > MOST_BYTES:
            return bytes(body)


async def _answer(scope: MutableMapping[str, Any], found: re.Match[str] | None, body: bytes) -> Answer:
    if not found:
        return refusal(404, "not_found", "There is no such address.")
    if scope["method"] != "POST":
        return refusal(405, "method_not_allowed", "Platforms POST their callbacks here.")
    if len(body) > MOST_BYTES:
        return refusal(413, "too_large", "A callback may have at most 1 MiB.")
    request = WebhookRequest(_headers(scope), body, time.time(), _query(scope))
    try:
        return await _take(scope, found["platform"], found["key"], request)
    except (NotStored, DatabaseError, InterfaceError):
        logger.exception("a callback was not stored")
        return refusal(503, "not_stored", "The message could not be stored. Please deliver it again.")


async def _send(answer: Answer, send: Send) -> None:
    body = json.dumps(answer.body, ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if answer.status == 405:
        headers.append((b"allow", b"POST"))
    if answer.retry_after_s:
        headers.append((b"retry-after", str(answer.retry_after_s).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _query(scope: Mapping[str, Any]) -> Mapping[str, str]:
    """Empty but for a few events: only those pay for reading it."""
    given = scope.get("query_string")
    return dict(parse_qsl(given.decode("latin-1"), keep_blank_values=True)) if given else NO_QUERY


async def _take(scope: MutableMapping[str, Any], platform: str, key: str, request: WebhookRequest) -> Answer:
    recalled = places.recall(key)
    place = recalled or await _in_thread(places.look_up)(key)
    if place is None or place.credentials.platform != platform:
        return await _nobody(platform, request)
    if not gate.admits_to_endpoint(scope, place.endpoint.pk):
        return refusal(403, "address_blocked", "Callbacks from your address are blocked here.")
    opened = await _opened(place.credentials, request)
    if not isinstance(opened, Answer):
        try:
            answer = await _act(place, request, opened)
            if answer.outcome in ("accepted", "repeated"):
                suspects.watch.note_authentic(scope.get("clawdbot.client_ip", ""))
            return answer
        except AuthenticationError as error:
            opened = _not_authentic(error)
    if opened.suspicion:
        if recalled:
            await _in_thread(places.look_up)(key)  # as for an unknown key, which is never remembered (rule W7)
        await _in_thread(_report)(place, opened.suspicion)
    return opened


async def _nobody(platform: str, request: WebhookRequest) -> Answer:
    """A wrong key costs as much as a wrong signature: it is checked against secrets that nobody has, and noted."""
    if platform in Platform:
        await _opened(places.nobodys(platform), request)
        await _in_thread(_report_unknown)(platform)
    return refusal(*NO_ADDRESS)


async def _opened(credentials: Credentials, request: WebhookRequest) -> Inbound | Answer:
    is_small = len(request.body) <= SMALL_BYTES
    return open_callback(credentials, request) if is_small else await _in_thread(open_callback)(credentials, request)


def open_callback(credentials: Credentials, request: WebhookRequest) -> Inbound | Answer:
    """Authenticate and parse, without any I/O; an Answer ends it here."""
    adapter = adapter_for(credentials.platform)
    try:
        _check_content_type(request, adapter)
        opened = adapter.receive(request, credentials)
    except UnsupportedMediaType:
        message = "Callbacks are application/json."
        return refusal(415, "unsupported_media_type", message, suspicion="type: the body does not call itself JSON")
    except AuthenticationError as error:
        return _not_authentic(error)
    except PayloadError as error:
        return refusal(400, "bad_payload", str(error), suspicion=f"payload: {error}")
    return opened


def _not_authentic(error: AuthenticationError) -> Answer:
    return refusal(401, "unauthenticated", "The callback is not authentic.", suspicion=str(error))


def _report(place: Place, suspicion: str) -> None:
    audit.record_refusal("webhook.rejected", target=place.endpoint, reason=suspicion)


def _report_unknown(platform: str) -> None:
    """Without the key, which may be a secret that was mistyped."""
    reason = "key: no such address, or it is disabled"
    audit.record_refusal("webhook.rejected", target_label=f"/webhooks/{platform}/", reason=reason)


async def _act(place: Place, request: WebhookRequest, event: Inbound) -> Answer:
    endpoint = place.endpoint
    if place.credentials.other:  # a secret is being changed
        place = await _by_which_secret(place, request)
    if endpoint.rate_limit_per_minute and (wait_s := await _pause_s(endpoint)):
        return refusal(429, "too_many", "More callbacks than this endpoint may take.", retry_after_s=wait_s)
    inbound.heard_from(endpoint)
    if isinstance(event, Challenge):
        return Answer(200, event.answer, "challenge")
    item = inbound.draft_of(endpoint, event)
    needs_database = inbound.has_effect(endpoint, event, item)
    act = _in_thread(inbound.act) if needs_database else None
    effect = await act(endpoint, event, item) if act else inbound.act(endpoint, event, item)
    if effect.draft is None:
        return Answer(200, _body_of(place, request, effect.shown), "ignored")
    accepted = await intake.accepted(effect.draft)
    return Answer(200, _body_of(place, request, effect.shown), "accepted" if accepted.is_new else "repeated")


async def _by_which_secret(place: Place, request: WebhookRequest) -> Place:
    """The place with the one of its two secrets by which this callback is authentic; a new one is now proved."""
    proven = adapter_for(place.credentials.platform).proven(request, place.credentials)
    if proven.is_next and place.endpoint.credential.next_heard_at is None:
        await _in_thread(secret_change.heard)(place.endpoint.credential)
    return replace(place, credentials=proven)


def _body_of(place: Place, request: WebhookRequest, shown: Mapping[str, Any]) -> Mapping[str, Any]:
    return adapter_for(place.credentials.platform).acknowledge(request, place.credentials, shown)


async def _pause_s(endpoint: Endpoint) -> int:
    return await SyncToAsync(limits.endpoint_pause_s, thread_sensitive=False, executor=_counters)(endpoint)


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    def work(*args: Any) -> Any:
        connections.freshen()
        return function(*args)

    return SyncToAsync(work, thread_sensitive=False, executor=_threads)


class UnsupportedMediaType(Exception):
    """A callback with a body that does not call itself JSON."""


def _check_content_type(request: WebhookRequest, adapter: Adapter) -> None:
    """Unsigned DingTalk probes come as anything; what claims to be a message must be JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_signed = adapter.signature_headers & request.headers.keys()
    if is_signed and kind != "application/json":
        raise UnsupportedMediaType
