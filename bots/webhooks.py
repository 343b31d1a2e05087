"""The platforms' door: one Channels HTTP consumer ahead of Django's own handler.

A Django view behind an ASGI server costs five to seven times more per request (measured); here a callback makes one
hop to a thread (find the endpoint, authenticate, parse) and then waits for the writer's commit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from asgiref.sync import SyncToAsync
from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.db import DatabaseError

from bots import connections, intake, limits
from bots import inbound as inbound_events
from bots.errors import NotStored
from bots.models import Endpoint
from clawdbot_site.security import gate
from integrations.base import Challenge, WebhookRequest
from integrations.errors import AuthenticationError, PayloadError
from integrations.registry import adapter_for
from monitoring import audit, metrics
from monitoring.context import current

logger = logging.getLogger(__name__)
PATH = re.compile(r"^/webhooks/(?P<platform>feishu|dingtalk)/(?P<key>[\w-]{1,200})/?$")
MOST_BYTES = 1024 * 1024
_threads = ThreadPoolExecutor(4, thread_name_prefix="webhook")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Mapping[str, Any]
    outcome: str  # for the metrics
    retry_after_s: int = 0


def refusal(status: int, code: str, message: str, retry_after_s: int = 0) -> Answer:
    error = {"code": code, "message": message, "request_id": current().request_id}
    return Answer(status, {"error": error}, code, retry_after_s)


class WebhookConsumer(AsyncConsumer):
    """Takes ``POST /webhooks/<platform>/<key>`` with and without the last slash, never redirecting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._body = bytearray()
        self._started = time.monotonic()

    async def http_request(self, event: Mapping[str, Any]) -> None:
        self._body += event.get("body", b"")
        if len(self._body) <= MOST_BYTES and event.get("more_body"):
            return
        answer = await self._answer()
        platform = (PATH.match(self.scope["path"]) or {"platform": "unknown"})["platform"]
        metrics.webhook(platform, answer.outcome, time.monotonic() - self._started)
        await self._send(answer)
        raise StopConsumer

    async def http_disconnect(self, event: Mapping[str, Any]) -> None:
        raise StopConsumer

    async def _answer(self) -> Answer:
        found = PATH.match(self.scope["path"])
        if not found:
            return refusal(404, "not_found", "There is no such address.")
        if self.scope["method"] != "POST":
            return refusal(405, "method_not_allowed", "Platforms POST their callbacks here.")
        if len(self._body) > MOST_BYTES:
            return refusal(413, "too_large", "A callback may have at most 1 MiB.")
        request = WebhookRequest(_headers(self.scope), bytes(self._body), time.time())
        try:
            return await _take(self.scope, found["platform"], found["key"], request)
        except (NotStored, DatabaseError):
            logger.exception("a callback was not stored")
            return refusal(503, "not_stored", "The message could not be stored. Please deliver it again.")

    async def _send(self, answer: Answer) -> None:
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        if answer.status == 405:
            headers.append((b"allow", b"POST"))
        if answer.retry_after_s:
            headers.append((b"retry-after", str(answer.retry_after_s).encode()))
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = json.dumps(answer.body, ensure_ascii=False).encode()
        await self.send({"type": "http.response.body", "body": body})


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _take(scope: dict[str, Any], platform: str, key: str, request: WebhookRequest) -> Answer:
    found = await SyncToAsync(_open, thread_sensitive=False, executor=_threads)(scope, platform, key, request)
    if isinstance(found, Answer):
        return found
    accepted = await asyncio.wrap_future(intake.accept(found))
    return Answer(200, {}, "accepted" if accepted.is_new else "repeated")


def _open(scope: dict[str, Any], platform: str, key: str, request: WebhookRequest) -> Answer | intake.Draft:
    """In a thread: find the endpoint, authenticate, parse. A Draft is still to be stored."""
    connections.freshen()
    related = "bot__model", "credential"
    endpoint = Endpoint.objects.live().with_key(key).select_related(*related).first()
    if endpoint is None or endpoint.credential.platform != platform:
        return refusal(404, "not_found", "There is no such address, or it is disabled.")
    if not gate.admits_to_endpoint(scope, endpoint.pk):
        return refusal(403, "address_blocked", "Callbacks from your address are blocked here.")
    try:
        _check_content_type(request)
        inbound = adapter_for(platform).receive(request, endpoint.credential.values())
    except UnsupportedMediaType:
        return refusal(415, "unsupported_media_type", "Callbacks are application/json.")
    except AuthenticationError as error:
        audit.record_refusal("webhook.rejected", target=endpoint, reason=str(error))
        return refusal(401, "unauthenticated", "The callback is not authentic.")
    except PayloadError as error:
        return refusal(400, "bad_payload", str(error))
    if wait_s := limits.endpoint_pause_s(endpoint):
        return refusal(429, "too_many", "More callbacks than this endpoint may take.", retry_after_s=wait_s)
    inbound_events.heard_from(endpoint)
    if isinstance(inbound, Challenge):
        return Answer(200, inbound.answer, "challenge")
    item = inbound_events.handle(endpoint, inbound)
    return item or Answer(200, {}, "ignored")


class UnsupportedMediaType(Exception):
    """A callback with a body that does not call itself JSON."""


def _check_content_type(request: WebhookRequest) -> None:
    """Unsigned DingTalk probes come as anything; what claims to be a message must be JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_signed = {"sign", "x-lark-signature"} & request.headers.keys()
    if is_signed and kind != "application/json":
        raise UnsupportedMediaType
