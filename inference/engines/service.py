"""One remote model service: its address, keys and connections. Knows HTTP, not what the events mean."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from inference.engines.keys import ApiKey, KeyRing
from inference.engines.sse import EventTooLarge, SseDecoder
from inference.engines.wire import Watchdog, Wire

CONNECT_TIMEOUT_S = 5.0
NO_HEADERS: Mapping[str, str] = {}
DONE = "[DONE]"  # the data of the event that ends every complete stream

_RETRIED = {408, 409, 429, 500, 502, 503, 504}
_MAX_BODY_BYTES = 4 << 20
_MAX_REASON_CHARACTERS = 300
_KEY_REFUSALS = {401, 403, 429}
_WEB_PAGE = "the address answers with a web page, not like a model service; does the base URL lack its /v1?"
_KEY_LIKE = re.compile(r"\b(sk-|Bearer\s+)[\w*.-]+")


class CallFailed(Exception):
    """No answer or a broken one (status None), or a status other than 200. ``text`` is for admins."""

    def __init__(self, status: int | None, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s

    @property
    def is_retriable(self) -> bool:
        return self.status is None or self.status in _RETRIED


class Service:
    """``base_url`` ends in ``/v1``; ``http`` is an HTTP/1.1 client, pooled and guarded by whoever made it."""

    def __init__(self, http: httpx.Client, base_url: str, keys: KeyRing) -> None:
        self.keys = keys
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._watchdog = Watchdog()

    def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        wire: Wire,
        read_timeout_s: float,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Generator[str]:
        """POST and yield the data of each event, or the whole body of a service that does not stream.

        Cutting ``wire`` wakes it. Raises CallFailed.
        """
        key = self.keys.pick()
        try:
            with (
                self._watchdog.watching(wire),
                self._posted(path, body, key, wire, read_timeout_s, headers) as response,
            ):
                if response.status_code != 200:
                    raise self._refusal(response, key)
                self.keys.taken(key)
                yield from _events(response)
        except (httpx.HTTPError, httpx.StreamError) as error:
            failure = f"the connection to the service failed: {type(error).__name__}: {error}"
            reason = "the service sent no text in time" if wire.is_expired else failure
            raise CallFailed(None, self.cleaned(reason)) from error

    def cleaned(self, text: str) -> str:
        """Return one short line for admins, without our keys and what looks like one."""
        for secret in self.keys.secrets:
            text = text.replace(secret, "***")
        masked = _KEY_LIKE.sub("***", text)
        return " ".join(masked.split())[:_MAX_REASON_CHARACTERS]

    @contextlib.contextmanager
    def _posted(
        self,
        path: str,
        body: Mapping[str, Any],
        key: ApiKey,
        wire: Wire,
        read_timeout_s: float,
        headers: Mapping[str, str],
    ) -> Iterator[httpx.Response]:
        request = self._http.build_request(
            "POST",
            self._base_url + path,
            json=body,
            headers={**_headers(key), **headers},
            timeout=httpx.Timeout(CONNECT_TIMEOUT_S, read=read_timeout_s, write=30),
            extensions={"trace": wire.trace},
        )
        response = self._http.send(request, stream=True, follow_redirects=False)
        try:
            wire.attach(response.extensions.get("network_stream"))
            yield response
        finally:
            wire.release()
            response.close()

    def _refusal(self, response: httpx.Response, key: ApiKey) -> CallFailed:
        said = self.cleaned(_error_message(_body(response)))
        failed = CallFailed(response.status_code, said, _retry_after_s(response.headers))
        if failed.status in _KEY_REFUSALS:
            self.keys.refused(key, response.status_code, said, failed.retry_after_s)
        return failed


def _headers(key: ApiKey) -> dict[str, str]:
    # A connection of its own for each call: only then does a cancel find the socket before the first byte, and
    # a connection that the service closed while it was idle costs no retry. Identity: compression delays events.
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Connection": "close"}
    return headers | ({"Authorization": f"Bearer {key.secret}"} if key.secret else {})


def _events(response: httpx.Response) -> Iterator[str]:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise CallFailed(200, _WEB_PAGE)
    if kind == "application/json":
        yield from (_body(response), DONE)
        return
    decoder = SseDecoder()
    try:
        for received in response.iter_bytes():
            yield from decoder.feed(received)
    except EventTooLarge:
        raise CallFailed(None, "the service sent an event larger than a mebibyte") from None
    yield from decoder.close()


def _body(response: httpx.Response) -> str:
    body = b""
    for received in response.iter_bytes():
        body += received
        if len(body) > _MAX_BODY_BYTES:
            break
    return body[:_MAX_BODY_BYTES].decode("utf-8", "replace")


def _error_message(body: str) -> str:
    """OpenAI's error shape, one of its many relatives, or the text itself."""
    with contextlib.suppress(ValueError):
        found = json.loads(body)
        if isinstance(found, dict):
            found = found.get("error") or found
        if isinstance(found, dict):
            parts = [found.get(name) for name in ("code", "message", "detail")]
            return ": ".join(str(part) for part in parts if part) or body
        return str(found)
    return body


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds or an HTTP date, RFC 9110 section 10.2.3."""
    value = headers.get("Retry-After", "").strip()
    with contextlib.suppress(ValueError, TypeError):
        if value.isdigit():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None
