"""Calls to DingTalk, one method each. Knows both hosts, tokens and what an outcome means; knows no reply.

Outcomes: a return is a success; Refused means that nothing became visible; OutcomeUnknown that it may have.
Session addresses and tokens are secrets: no message names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from integrations.base import Credentials, TokenStore
from integrations.dingtalk import limits
from integrations.dingtalk.refusals import (
    GATEWAY_TIMEOUT,
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

Json = Mapping[str, Any]

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
RENEW_EARLY_S = 600.0
_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class DingTalkClient:
    """DingTalk as one app sees it.

    Writing on a card waits for its turn by itself (HeldBack). All else can become visible and is noted in a journal
    first: ask ``pace`` before that.
    """

    def __init__(
        self, credentials: Credentials, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None
    ) -> None:
        self._credentials = credentials
        self._http = http
        self._tokens = tokens
        self._traffic = Traffic(credentials, limits.judge, meter or Unmetered())
        self.patience_s = LONGEST_WAIT_S
        self._token_key = f"dingtalk:token:{credentials.api_url}:{credentials.app_id}"

    def pace(self, name: str, place: str = "") -> None:
        """Wait for a call's turn, for ``patience_s`` at most; names are those of ``limits``. Raises HeldBack."""
        self._traffic.admit(limits.call(self._credentials, name, place), self.patience_s)

    def send_by_session(self, url: str, body: Json, chat_id: str = "") -> None:
        """Answer in the chat that a sessionWebhook stands for. Raises Refused, OutcomeUnknown."""
        made = self._traffic.made(limits.call(self._credentials, limits.SESSION, chat_id))
        with made, metered("dingtalk", limits.SESSION):
            self._send_by_session(url, body)

    def _send_by_session(self, url: str, body: Json) -> None:
        call = "send by the chat's reply address"
        response = self._exchange("POST", url, body, call)
        answer = _json(response)
        if response.is_success and isinstance(answer, dict) and answer.get("errcode") == 0:
            return
        if answer_code(response.status_code, answer) == GATEWAY_TIMEOUT:
            raise _unknown(call)
        raise _refusal(call, response)

    def send_to_user(self, body: Json) -> str:
        """Send to one person; return the id of the sending. HTTP 200 can hide a refusal, in two lists."""
        call = "send to the person"
        answer = self._call("POST", "/v1.0/robot/oToMessages/batchSend", body, call)
        if answer.get("invalidStaffIdList"):
            raise Refused(
                f"DingTalk refused to {call}: it knows no such staff id", "invalidStaffIdList", permanent=True
            )
        if answer.get("flowControlledStaffIdList"):  # says nothing about other people
            raise Refused(f"DingTalk refused to {call}: too many messages to them", "flowControlledStaffIdList")
        return str(answer.get("processQueryKey", ""))

    def send_to_group(self, body: Json) -> str:
        """Send to a group; return the id of the sending."""
        answer = self._call("POST", "/v1.0/robot/groupMessages/send", body, "send to the group")
        return str(answer.get("processQueryKey", ""))

    def create_and_deliver_card(self, body: Json) -> str:
        """Put a card into a chat; return its carrier's id. HTTP 200 can hide a refusal per chat."""
        call = "deliver the card"
        result = self._call("POST", "/v1.0/card/instances/createAndDeliver", body, call).get("result")
        deliveries = result.get("deliverResults") if isinstance(result, dict) else None
        if not deliveries or not all(isinstance(d, dict) and d.get("success") is True for d in deliveries):
            raise Refused(f"DingTalk refused to {call} to this chat", "deliverResults", permanent=True)
        return str(deliveries[0].get("carrierId", ""))

    def stream_card(self, body: Json) -> None:
        """Show a text on a card. May be repeated: its ``guid`` makes a repeat harmless. Raises Refused."""
        card = str(body["outTrackId"])
        self.pace(limits.STREAM, card)
        self._call("PUT", "/v1.0/card/streaming", body, "update the card", card, repeatable=True)

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
        answer = _json(response)
        if response.is_success and isinstance(answer, dict) and _is_done(answer):
            return answer
        raise _refusal(call, response)

    def _authorised(
        self, method: str, path: str, body: Json, call: str, token: str, repeatable: bool
    ) -> httpx.Response:
        url = self._credentials.api_url + path
        return self._exchange(method, url, body, call, {"x-acs-dingtalk-access-token": token}, repeatable=repeatable)

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
        answer = _json(response)
        token = answer.get("accessToken") if isinstance(answer, dict) else None
        if not (response.is_success and isinstance(token, str) and token.isascii() and token):
            raise _refusal(call, response)
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
        except _NOTHING_SENT as problem:
            raise _unreachable(call) from problem
        except httpx.RequestError as problem:
            raise (_unreachable(call) if repeatable else _unknown(call)) from problem
        if response.status_code in (502, 504):
            raise _unreachable(call) if repeatable else _unknown(call)
        return response


def _is_done(answer: Json) -> bool:
    return answer.get("success") is not False and not is_blocked(answer)


def _refusal(call: str, response: httpx.Response) -> Refused:
    return refusal(call, response.status_code, _json(response), response.headers.get("retry-after", ""))


def _unreachable(call: str) -> Refused:
    words = "check this server's network and DingTalk's two addresses"
    return Refused(f"DingTalk was not reached to {call}: {words}", UNREACHABLE, meaning="app")


def _unknown(call: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"DingTalk was asked to {call}, but its answer was lost; it may have been done")


def _is_token_refused(response: httpx.Response) -> bool:
    """HTTP 400, sometimes 401. Source: PROTOCOL.md, "Access token"."""
    status = response.status_code
    return status == 401 or (status == 400 and answer_code(status, _json(response)) in TOKEN_CODES)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
