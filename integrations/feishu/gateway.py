"""Where an app's long connection goes: the call that tells, and what refusals on the way there mean.

Sync; nothing here logs or repeats an address, which holds a key. Source: PROTOCOL.md, "Connecting".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx

from clawdbot_site.security.outbound import OutboundRefused
from integrations.feishu import refusals
from integrations.feishu.refusals import FeishuError
from integrations.metering import metered
from integrations.values import Credentials

TIMEOUT: Final = httpx.Timeout(8.0, connect=3.0)
CALL: Final = "long connection"

_FORBIDDEN, _AUTH_FAILED, _TOO_MANY = 403, 514, 1000040350
_BUSY = frozenset({1, 1000040343})
_ADVICE: Final[Mapping[int, str]] = {
    _FORBIDDEN: (
        "the app may not use it: enable the bot ability and choose the long connection for events in Feishu's console, "
        "then publish a version"
    ),
    _AUTH_FAILED: "wrong App ID or App Secret: copy them again from Feishu's console",
    1000040344: "App ID or App Secret is missing",
    _TOO_MANY: "50 connections of this app are open, which is the most: stop other programs that use its App ID",
}
_GENERAL_ADVICE = "refused: check App ID and App Secret; only custom apps with the bot ability may use it"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect, once. ``service_id`` goes into every ping, ``config`` is a ClientConfig as it came."""

    url: str = field(repr=False)  # with a ticket in it
    service_id: int
    config: Any


def ask(http: httpx.Client, credentials: Credentials) -> Place:
    """Ask for a fresh place. Raises FeishuError, ``permanent`` where an admin has to act."""
    body = {"AppID": credentials.app_id, "AppSecret": credentials.app_secret}
    with metered("feishu", CALL):
        try:
            answer = http.post(
                f"{credentials.api_url}/callback/ws/endpoint", json=body, headers={"locale": "zh"}, timeout=TIMEOUT
            )
        except OutboundRefused as problem:
            raise FeishuError(str(problem), permanent=True) from problem
        except (httpx.RequestError, httpx.InvalidURL) as problem:
            raise refusals.from_silence(CALL, problem, is_refusal=True) from problem
        return _place(_data(answer))


def not_opened(status: int, headers: Mapping[str, str]) -> FeishuError:
    """The error for a WebSocket that was not opened. Only two of the platform's reasons are an admin's business."""
    reason, detail = headers.get("handshake-status"), headers.get("handshake-autherrcode")
    if detail == str(_TOO_MANY):
        return _refused(_TOO_MANY, headers.get("handshake-msg"))
    if reason == str(_FORBIDDEN):
        return _refused(_FORBIDDEN, headers.get("handshake-msg"))
    return FeishuError(f"Feishu, {CALL}: not opened (HTTP {status}, {reason or 'no reason given'})")


def _data(answer: httpx.Response) -> Mapping[str, Any]:
    """The answer's ``data``. Anything but HTTP 200 means that the platform is busy, and will pass."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    code = body.get("code") if isinstance(body, dict) else None
    if answer.status_code != httpx.codes.OK or not isinstance(code, int) or code in _BUSY:
        raise FeishuError(f"Feishu, {CALL}: busy, or not Feishu at this base address (HTTP {answer.status_code})")
    if code:
        raise _refused(code, body.get("msg"))
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def _refused(code: int, said: Any) -> FeishuError:
    words = f", {said[:200]}" if isinstance(said, str) and said else ""
    message = f"Feishu, {CALL}: {_ADVICE.get(code, _GENERAL_ADVICE)} (code {code}{words})"
    return FeishuError(message, code=code, permanent=True)


def _place(data: Mapping[str, Any]) -> Place:
    url, config = data.get("URL"), data.get("ClientConfig")
    service_id = _service_id(url) if isinstance(url, str) else None
    if not isinstance(url, str) or service_id is None:
        raise FeishuError(f"Feishu, {CALL}: the answer has no address to connect to")
    return Place(url, service_id, config)


def _service_id(url: str) -> int | None:
    try:
        found = parse_qs(urlsplit(url).query).get("service_id", [""])[0]
    except ValueError:  # brackets that hold no address
        return None
    return int(found) if re.fullmatch("[0-9]{1,10}", found) and int(found) < 2**31 else None
