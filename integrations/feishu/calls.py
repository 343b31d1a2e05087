"""How Feishu is called: access tokens, one request, its answer or error. Knows no single call.

Sync; thread-safe as far as the given HTTP client and token store are. Never logs tokens or bodies.
Source: PROTOCOL.md, "Calls".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from integrations.base import TokenStore
from integrations.errors import TooLarge
from integrations.feishu import limits, refusals
from integrations.feishu.refusals import FeishuError
from integrations.metering import QuotaMeter, Unmetered, metered
from integrations.pacing import LONGEST_WAIT_S
from integrations.traffic import Traffic
from integrations.values import Credentials, Fetched
from monitoring import tracing

TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
HURRIED: Final = httpx.Timeout(2.0, connect=1.0)
LONGEST_DOWNLOAD_S: Final = 60.0
RENEW_BEFORE_END_S: Final = 600
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)

Json = dict[str, Any]
T = TypeVar("T")


class FeishuCalls:
    """The calls of one app. All raise FeishuError; ask ``pace`` before one (HeldBack)."""

    def __init__(
        self, credentials: Credentials, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None
    ) -> None:
        self._credentials, self._http, self._tokens = credentials, http, tokens
        self._traffic = Traffic(credentials, limits.judge, meter or Unmetered())
        self.patience_s = LONGEST_WAIT_S
        self._timeout = TIMEOUT
        self._token_key = f"feishu:{credentials.api_url}:{credentials.app_id}"

    def pace(self, name: str, *, chat_id: str = "", card_id: str = "") -> None:
        """Wait for a call's turn, for ``patience_s`` at most. Raises HeldBack: the call must not be made."""
        self._traffic.admit(limits.call(self._credentials, name, chat_id=chat_id, card_id=card_id), self.patience_s)

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """For calls that are worth no wait: neither for their turn nor, for long, for an answer."""
        patience_s, timeout = self.patience_s, self._timeout
        self.patience_s, self._timeout = 0.0, HURRIED
        try:
            yield
        finally:
            self.patience_s, self._timeout = patience_s, timeout

    def _read(self, name: str, path: str) -> Json:
        """One reading call in its turn; returns the answer's ``data``."""
        self.pace(name)
        data = self._call(name, "GET", path).get("data")
        return data if isinstance(data, dict) else {}

    def _call(self, name: str, method: str, path: str, body: Json | None = None, **place: str) -> Json:
        with self._traffic.made(limits.call(self._credentials, name, **place)):
            return self._authorised(lambda token: self._request(name, method, path, body, token))

    def _download(self, name: str, path: str, most_bytes: int) -> Fetched:
        """Bytes instead of JSON. Raises TooLarge, too."""
        self.pace(name)
        with self._traffic.made(limits.call(self._credentials, name)):
            return self._authorised(lambda token: self._fetched(name, path, token, most_bytes))

    def _authorised(self, call: Callable[[str], T]) -> T:
        """Make one call with a token; a refused one is replaced and the call repeated, once."""
        token = self._token()
        try:
            return call(token)
        except FeishuError as error:
            if error.code not in refusals.TOKEN_REFUSED:
                raise
        return call(self._token(refused=token))

    def sign_in(self) -> None:
        """See that an access token is there."""
        self._token()

    def _token(self, refused: str = "") -> str:
        """The tenant access token, fetched by one worker at a time. ``refused`` is not given out again."""
        token = self._tokens.get(self._token_key)
        if token and token != refused:
            return token
        with self._tokens.lock(self._token_key):
            token = self._tokens.get(self._token_key)
            if token and token != refused:
                return token
            self._tokens.delete(self._token_key)
            return self._fetch_token()

    def _fetch_token(self) -> str:
        secrets = {"app_id": self._credentials.app_id, "app_secret": self._credentials.app_secret}
        try:
            answer = self._request("access token", "POST", "/auth/v3/tenant_access_token/internal", secrets)
        except FeishuError as error:
            error.is_refusal = True  # whatever became of it: without a token nothing was sent
            raise
        token, life_s = answer.get("tenant_access_token"), answer.get("expire")
        if not isinstance(token, str) or not isinstance(life_s, int):
            raise FeishuError("Feishu, access token: unreadable answer")
        self._tokens.set(self._token_key, token, max(life_s - RENEW_BEFORE_END_S, life_s / 2))
        return token

    def _request(self, name: str, method: str, path: str, body: Json | None = None, token: str = "") -> Json:
        """One HTTP request; returns the answer when its ``code`` is 0, whatever the HTTP status."""
        headers, content = _bearer(token), None
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
            content = json.dumps(body, ensure_ascii=False).encode()
        with metered("feishu", name):
            try:
                answer = self._http.request(
                    method, self._url(path), content=content, headers=headers, timeout=self._timeout
                )
            except (httpx.RequestError, httpx.InvalidURL) as problem:
                raise refusals.from_silence(name, problem, is_refusal=isinstance(problem, _NOT_SENT)) from problem
            tracing.note(method=method, http_status=answer.status_code)
            return _judged(name, answer, self._secrets(token))

    def _fetched(self, name: str, path: str, token: str, most_bytes: int) -> Fetched:
        with metered("feishu", name):
            try:
                with self._http.stream("GET", self._url(path), headers=_bearer(token), timeout=TIMEOUT) as answer:
                    data = _bytes_of(answer, most_bytes)
            except (httpx.RequestError, httpx.InvalidURL) as problem:
                raise refusals.from_silence(name, problem, is_refusal=isinstance(problem, _NOT_SENT)) from problem
            tracing.note(method="GET", http_status=answer.status_code)
            kind = answer.headers.get("content-type", "")
            if (refusal := _refusal_in(data, kind)) or answer.status_code != httpx.codes.OK:
                raise refusals.from_answer(name, answer.status_code, answer.headers, refusal, self._secrets(token))
            return Fetched(data, kind)

    def _secrets(self, token: str) -> tuple[str, ...]:
        own = self._credentials
        return token, own.app_secret, own.verification_token, own.encrypt_key

    def _url(self, path: str) -> str:
        return f"{self._credentials.api_url}/open-apis{path}"


def in_path(name: str) -> str:
    """An id as one part of a path: dots alone would lead to another call."""
    return quote(name, safe="").replace(".", "%2E")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _judged(name: str, answer: httpx.Response, secrets: Sequence[str]) -> Json:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("code") == 0 and body.get("code") is not False:
        return body
    raise refusals.from_answer(name, answer.status_code, answer.headers, body, secrets)


def _bytes_of(answer: httpx.Response, most_bytes: int) -> bytes:
    """The whole body. One that is announced or found too large, or that takes too long, is not read to its end."""
    until_s, data = time.monotonic() + LONGEST_DOWNLOAD_S, bytearray()
    for piece in answer.iter_bytes():
        data += piece
        if len(data) > most_bytes:
            raise TooLarge(f"Feishu: the file has more than {most_bytes:,} bytes")
        if time.monotonic() > until_s:
            raise httpx.ReadTimeout("the download took too long", request=answer.request)
    return bytes(data)


def _refusal_in(data: bytes, media_type: str) -> Json | None:
    """A refusal comes as JSON in place of the file. A file may be JSON as well, but has no such ``code``."""
    if "json" not in media_type:
        return None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_refusal = isinstance(body, dict) and isinstance(body.get("code"), int) and body["code"] and "msg" in body
    return body if is_refusal else None
