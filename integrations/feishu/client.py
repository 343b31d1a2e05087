"""Feishu's REST interface, one method per call. Knows tokens and answers, no replies and no texts.

Sync; thread-safe as far as the given HTTP client and token store are. Never logs tokens or bodies.
Source: PROTOCOL.md, "Calls".
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from integrations.base import Credentials, TokenStore
from integrations.feishu import limits, refusals
from integrations.feishu.cards import Part
from integrations.feishu.refusals import FeishuError
from integrations.metering import QuotaMeter, Unmetered, metered
from integrations.pacing import LONGEST_WAIT_S
from integrations.traffic import Traffic

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
RENEW_BEFORE_END_S = 600
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)

Json = dict[str, Any]


class FeishuClient:
    """The calls of one app. All raise FeishuError; those on a card or about the bot wait for their turn (HeldBack).

    Sends and new cards leave a trace in a journal: ask ``pace`` before it, then make them.
    """

    def __init__(
        self, credentials: Credentials, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None
    ) -> None:
        self._credentials, self._http, self._tokens = credentials, http, tokens
        self._traffic = Traffic(credentials, limits.judge, meter or Unmetered())
        self.patience_s = LONGEST_WAIT_S
        self._token_key = f"feishu:{credentials.api_url}:{credentials.app_id}"

    def pace(self, name: str, *, chat_id: str = "", card_id: str = "") -> None:
        """Wait for a call's turn, for ``patience_s`` at most. Raises HeldBack: the call must not be made."""
        self._traffic.admit(limits.call(self._credentials, name, chat_id=chat_id, card_id=card_id), self.patience_s)

    def bot_open_id(self) -> str:
        """The bot's own open_id; it differs per app."""
        self.pace("bot info")
        bot = self._call("bot info", "GET", "/bot/v3/info").get("bot")
        return str(bot.get("open_id") or "") if isinstance(bot, dict) else ""

    def send_message(self, id_type: str, receive_id: str, part: Part, uuid: str) -> str:
        """Send to a chat (``chat_id``) or a person (``open_id``); returns the message id.

        The same ``uuid`` gives at most one message within an hour.
        """
        body = {"receive_id": receive_id, **_message(part, uuid)}
        path = f"/im/v1/messages?receive_id_type={id_type}"
        return self._message_id(self._call("send", "POST", path, body, chat_id=receive_id))

    def reply_message(self, message_id: str, part: Part, uuid: str, chat_id: str = "") -> str:
        """Reply to a message, in its thread where it stands in one; returns the message id. ``uuid`` as above.

        ``chat_id`` is where the message stands: that chat is left alone when it has had too many.
        """
        body = {**_message(part, uuid), "reply_in_thread": False}
        path = f"/im/v1/messages/{quote(message_id, safe='')}/reply"
        return self._message_id(self._call("reply", "POST", path, body, chat_id=chat_id))

    def create_card(self, card: str) -> str:
        """Make a card entity of a card's JSON; returns its id. It can be sent once."""
        answer = self._call("create card", "POST", "/cardkit/v1/cards", {"type": "card_json", "data": card})
        return _id(answer, "card_id", "create card")

    def update_card_text(self, card_id: str, element_id: str, text: str, sequence: int) -> None:
        """Replace an element's text. ``sequence`` must be higher than in any earlier operation on the card."""
        path = f"/cardkit/v1/cards/{card_id}/elements/{element_id}/content"
        self.pace("update card", card_id=card_id)
        self._call("update card", "PUT", path, {"content": text, **_operation(sequence)}, card_id=card_id)

    def update_card_settings(self, card_id: str, settings: str, sequence: int) -> None:
        """Change a card's settings, given as JSON text. ``sequence`` as above."""
        body = {"settings": settings, **_operation(sequence)}
        self.pace("card settings", card_id=card_id)
        self._call("card settings", "PATCH", f"/cardkit/v1/cards/{card_id}/settings", body, card_id=card_id)

    def _message_id(self, answer: Json) -> str:
        return _id(answer, "message_id", "send")

    def _call(self, name: str, method: str, path: str, body: Json | None = None, **place: str) -> Json:
        with self._traffic.made(limits.call(self._credentials, name, **place)):
            return self._authorised(name, method, path, body)

    def _authorised(self, name: str, method: str, path: str, body: Json | None) -> Json:
        """Make one call; a refused token is replaced and the call repeated, once."""
        token = self._token()
        try:
            return self._request(name, method, path, body, token)
        except FeishuError as error:
            if error.code not in refusals.TOKEN_REFUSED:
                raise
        return self._request(name, method, path, body, self._token(refused=token))

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
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
            content = json.dumps(body, ensure_ascii=False).encode()
        url = f"{self._credentials.api_url}/open-apis{path}"
        with metered("feishu", name):
            try:
                answer = self._http.request(method, url, content=content, headers=headers, timeout=TIMEOUT)
            except (httpx.RequestError, httpx.InvalidURL) as problem:
                raise refusals.from_silence(name, problem, is_refusal=isinstance(problem, _NOT_SENT)) from problem
            return _judged(name, answer)


def _judged(name: str, answer: httpx.Response) -> Json:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("code") == 0 and body.get("code") is not False:
        return body
    raise refusals.from_answer(name, answer.status_code, answer.headers, body)


def _message(part: Part, uuid: str) -> Json:
    return {"msg_type": part.msg_type, "content": part.content, "uuid": uuid}


def _operation(sequence: int) -> Json:
    """Every operation has a uuid of its own: a repeated one would be taken for done, whatever it holds."""
    return {"sequence": sequence, "uuid": uuid4().hex}


def _id(answer: Json, name: str, call: str) -> str:
    data = answer.get("data")
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, str) or not found:
        raise FeishuError(f"Feishu, {call}: the answer has no {name}", is_refusal=False)
    return found
