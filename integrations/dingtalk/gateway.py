"""The call that opens DingTalk's Stream: an app's id and secret in, a one-use address of a WebSocket out.

The address holds a ticket, which is a secret: no message names it. Source: PROTOCOL.md, "Stream: opening".
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import httpx

from clawdbot_site.security.outbound import OutboundRefused
from integrations.dingtalk.frames import BOT_TOPIC, CARD_TOPIC
from integrations.dingtalk.refusals import UNREACHABLE, Refused, answer_code, refusal
from integrations.metering import metered
from integrations.values import Credentials

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
SUBSCRIPTIONS: Final = (
    {"type": "EVENT", "topic": "*"},
    {"type": "CALLBACK", "topic": BOT_TOPIC},
    {"type": "CALLBACK", "topic": CARD_TOPIC},
)
_CALL = "open the Stream connection"
_SETUP = (
    "check app_id and app_secret, that the app and its robot are published, and that the robot's receive mode is Stream"
)


def open_gateway(credentials: Credentials, http: httpx.Client) -> str:
    """The address to connect to, once and within 90 seconds. Raises Refused."""
    with metered("dingtalk", "open"):
        response = _asked(credentials, http)
        answer = _json(response)
        endpoint, ticket = (answer.get("endpoint"), answer.get("ticket")) if isinstance(answer, dict) else (None, None)
        if response.is_success and isinstance(endpoint, str) and isinstance(ticket, str) and ticket:
            return f"{endpoint}?ticket={quote(ticket, safe='')}"
        raise _refusal(response, answer)


def _asked(credentials: Credentials, http: httpx.Client) -> httpx.Response:
    url = credentials.api_url + "/v1.0/gateway/connections/open"
    body = {"clientId": credentials.app_id, "clientSecret": credentials.app_secret, "subscriptions": SUBSCRIPTIONS}
    headers = {"Accept": "application/json"}  # without it the answer is XML
    try:
        return http.post(url, json=body, headers=headers, timeout=TIMEOUT, follow_redirects=False)
    except OutboundRefused as problem:
        raise Refused(str(problem), UNREACHABLE, permanent=True) from problem
    except httpx.RequestError as problem:
        words = "check this server's network and DingTalk's address; it is tried again"
        raise Refused(f"DingTalk was not reached to {_CALL}: {words}", UNREACHABLE) from problem


def _refusal(response: httpx.Response, answer: Any) -> Refused:
    """400 is all that DingTalk says of a wrong secret, an unpublished app or robot, and the wrong mode."""
    if response.status_code == 400 and isinstance(answer, dict):
        code = answer_code(400, answer)
        return Refused(f"DingTalk refused to {_CALL}: {_SETUP} (code {code})", code, permanent=True)
    return refusal(_CALL, response.status_code, answer, response.headers.get("retry-after", ""))


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
