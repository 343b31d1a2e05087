"""How any call to DingTalk is made: both hosts, the shared token, pace and quota, and what an outcome means.

Outcomes: a return is a success; Refused means that nothing became visible; OutcomeUnknown that it may have.
Session addresses and tokens are secrets: no message names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx

from integrations.base import TokenStore
from integrations.dingtalk import limits
from integrations.dingtalk.refusals import (
    TOKEN_CODES,
    UNREACHABLE,
    Refused,
    answer_code,
    is_blocked,
    refusal,
)
from integrations.errors import OutcomeUnknown
from integrations.metering import QuotaMeter, Unmetered, metered
from integrations.pacing import LONGEST_WAIT_S
from integrations.traffic import Traffic
from integrations.values import Credentials
from monitoring import tracing

Json = Mapping[str, Any]

TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
RENEW_EARLY_S: Final = 600.0
NOTHING_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class Transport:
    """DingTalk as one app reaches it."""

    def __init__(
        self, credentials: Credentials, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None
    ) -> None:
        self._credentials = credentials
        self._http = http
        self._tokens = tokens
        self._traffic = Traffic(credentials, limits.judge, meter or Unmetered())
        self._unbilled = Traffic(credentials, limits.judge, Unmetered())
        self.patience_s = LONGEST_WAIT_S
        self._token_key = f"dingtalk:token:{credentials.api_url}:{credentials.app_id}"

    def pace(self, name: str, place: str = "") -> None:
        """Wait for a call's turn, for ``patience_s`` at most; names are those of ``limits``. Raises HeldBack."""
        self._traffic.admit(limits.call(self._credentials, name, place), self.patience_s)

    def _call(
        self, method: str, path: str, body: Json, call: str, place: str = "", *, repeatable: bool = False
    ) -> dict[str, Any]:
        """A call of the new API; a refused token is replaced once."""
        name = path.rpartition("/")[2]
        with self._traffic.made(limits.call(self._credentials, name, place)), metered("dingtalk", name):
            return self._asked(method, path, body, call, repeatable)

    def _asked(self, method: str, path: str, body: Json, call: str, repeatable: bool) -> dict[str, Any]:
        token = self._token()
        response = self._authorised(method, path, body, call, token, repeatable)
        if _is_token_refused(response):
            token = self._token(refused=token)
            response = self._authorised(method, path, body, call, token, repeatable)
        answer = as_json(response)
        if response.is_success and isinstance(answer, dict) and _is_done(answer):
            return answer
        raise refused(call, response)

    def _call_old(self, path: str, body: Json, call: str) -> dict[str, Any]:
        """A call of the old host about people or departments: it changes nothing, and no quota counts it."""
        name = path.rpartition("/")[2]
        with self._unbilled.made(limits.call(self._credentials, name)), metered("dingtalk", name):
            token = self._token()
            response = self._asked_old(path, body, call, token)
            if _is_token_refused(response):
                response = self._asked_old(path, body, call, self._token(refused=token))
            answer = as_json(response)
            if response.is_success and isinstance(answer, dict) and answer.get("errcode") == 0:
                return answer
            raise refused(call, response)

    def _asked_old(self, path: str, body: Json, call: str, token: str) -> httpx.Response:
        url = f"{self._credentials.oapi_url}{path}?access_token={quote(token, safe='')}"
        return self._exchange("POST", url, body, call, repeatable=True)

    def _authorised(
        self, method: str, path: str, body: Json, call: str, token: str, repeatable: bool
    ) -> httpx.Response:
        url = self._credentials.api_url + path
        return self._exchange(method, url, body, call, {"x-acs-dingtalk-access-token": token}, repeatable=repeatable)

    def sign_in(self) -> None:
        """See that an access token is there."""
        self._token()

    def _token(self, *, refused: str = "") -> str:
        """The shared access token, fetched by one process at a time; one that DingTalk ``refused`` is dropped."""
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
        call, url = "give an access token", self._credentials.api_url + "/v1.0/oauth2/accessToken"
        body = {"appKey": self._credentials.app_id, "appSecret": self._credentials.app_secret}
        response = self._exchange("POST", url, body, call, repeatable=True)
        answer = as_json(response)
        token = answer.get("accessToken") if isinstance(answer, dict) else None
        if not (response.is_success and isinstance(token, str) and token.isascii() and token):
            raise refused(call, response)
        life_s = answer.get("expireIn") if isinstance(answer.get("expireIn"), int) else 7200
        self._tokens.set(self._token_key, token, max(life_s - RENEW_EARLY_S, life_s / 2))
        return token

    def _exchange(
        self,
        method: str,
        url: str,
        body: Json,
        call: str,
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool = False,
    ) -> httpx.Response:
        """One request, one answer, no redirect. ``repeatable``: a lost answer does no harm, so it is only Refused."""
        try:
            response = self._http.request(
                method, url, json=body, headers=headers, timeout=TIMEOUT, follow_redirects=False
            )
        except NOTHING_SENT as problem:
            raise unreachable(call) from problem
        except httpx.RequestError as problem:
            raise (unreachable(call) if repeatable else unknown(call)) from problem
        tracing.note(method=method, http_status=response.status_code)
        if response.status_code in (502, 504):
            raise unreachable(call) if repeatable else unknown(call)
        return response


def _is_done(answer: Json) -> bool:
    return answer.get("success") is not False and not is_blocked(answer)


def refused(call: str, response: httpx.Response) -> Refused:
    return refusal(call, response.status_code, as_json(response), response.headers.get("retry-after", ""))


def unreachable(call: str) -> Refused:
    words = "check this server's network and DingTalk's two addresses"
    return Refused(f"DingTalk was not reached to {call}: {words}", UNREACHABLE, meaning="app")


def unknown(call: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"DingTalk was asked to {call}, but its answer was lost; it may have been done")


def _is_token_refused(response: httpx.Response) -> bool:
    """HTTP 400, sometimes 401; the old host says it with 200. Source: PROTOCOL.md, "Access token"."""
    status = response.status_code
    return status == 401 or (status in (200, 400) and answer_code(status, as_json(response)) in TOKEN_CODES)


def as_json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
