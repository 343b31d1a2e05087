"""What a visitor reads who does not come in: one error shape for programs, a small page for people."""

from __future__ import annotations

import html
import json
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

from monitoring.context import Receive, Send, current

CLOSED: Final = 4403  # how a WebSocket ends that is not let in
TOO_OFTEN_CLOSED: Final = 4429


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    code: str
    message: str
    retry_after_s: int = 0


FORBIDDEN: Final = Answer(403, "address_refused", "Calls from your network address are not allowed here.")
TOO_LARGE: Final = Answer(413, "too_large", "The request body is too large.")
TOO_SLOW: Final = Answer(408, "too_slow", "The request came too slowly. Send it again.")
BAD_REQUEST: Final = Answer(400, "bad_request", "This is no valid HTTP request.")
BAD_HEADER: Final = Answer(400, "bad_request", "A header is malformed or given twice.")
LONG_ADDRESS: Final = Answer(414, "address_too_long", "The address of the request is too long.")
MANY_HEADERS: Final = Answer(431, "headers_too_large", "The request has too many or too long headers.")
TOO_OFTEN: Final = Answer(429, "rate_limited", "Too many requests from your network address. Wait, then try again.")
UNAVAILABLE: Final = Answer(503, "unavailable", "The database cannot be reached. Try again in a moment.")


def too_often(retry_after_s: int) -> Answer:
    return replace(TOO_OFTEN, retry_after_s=retry_after_s)


async def refuse(answer: Answer, area: str, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the connect, which the protocol has come first
        await send({"type": "websocket.close", "code": TOO_OFTEN_CLOSED if answer.status == 429 else CLOSED})
        return
    headers, body = written(answer, area, current().request_id)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def written(answer: Answer, area: str, request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of an answer."""
    kind, body = _page(answer, request_id) if area in ("admin", "site") else _json(answer, request_id)
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    if answer.retry_after_s:
        headers.append((b"retry-after", str(answer.retry_after_s).encode()))
    return headers, body


def _json(answer: Answer, request_id: str) -> tuple[bytes, bytes]:
    error = {"code": answer.code, "message": answer.message, "request_id": request_id}
    return b"application/json", json.dumps({"error": error}).encode()


def _page(answer: Answer, request_id: str) -> tuple[bytes, bytes]:
    text = html.escape(f"{answer.message} ({request_id})")
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{answer.status}</title><p>{text}</p></html>"
    return b"text/html; charset=utf-8", page.encode()
