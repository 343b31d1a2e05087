"""Authenticating what comes over HTTP, by three different proofs: robot messages, card actions, sealed events. Pure.

One address takes all three. What kind a payload is depends on its proof alone, never on what it holds.
"""

from __future__ import annotations

import json
from typing import Any, Final

from integrations.dingtalk.crypto import (
    EventKeys,
    card_secret,
    check_event_age,
    verify_callback,
    verify_card_callback,
)
from integrations.dingtalk.payload import Json, as_text, strict_object
from integrations.errors import AuthenticationError
from integrations.values import Challenge, Credentials, WebhookRequest

SIGNED: Final = frozenset({"sign", "x-ddpaas-signature"})
CHECK_URL: Final = "check_url"
SUCCESS: Final = b"success"
_SIGNATURES: Final = ("msg_signature", "signature")


class PressedButton(dict[str, Any]):
    """The object of a pressed button."""


class SealedEvent(dict[str, Any]):
    """The object of an event."""


def open_callback(request: WebhookRequest, credentials: Credentials) -> Json | Challenge:
    """Authenticate a callback and return its JSON object; the console's probes are Challenges."""
    now_ms = int(request.received_at_s * 1000)
    if is_event(request):
        return _open_event(request, credentials, now_ms)
    if "x-ddpaas-signature" in request.headers:
        return _open_card_action(request, credentials, now_ms)
    if is_probe(request):
        return Challenge({})
    verify_callback(request.headers, credentials.app_secret, now_ms)
    payload = strict_object(request.body)
    check_addressee(payload, credentials)
    return payload


def acknowledge(request: WebhookRequest, credentials: Credentials) -> Json | None:
    """What DingTalk wants back for an event, else it sends it again; None for all else."""
    return _sealed_success(request, credentials) if is_event(request) else None


def is_event(request: WebhookRequest) -> bool:
    return any(name in request.query for name in _SIGNATURES)


def is_probe(request: WebhookRequest) -> bool:
    """Whether this is the reachability test of DingTalk's console: unsigned, and empty or no JSON.

    Source: PROTOCOL.md, "Console probe".
    """
    if "timestamp" in request.headers or "sign" in request.headers:
        return False
    try:
        json.loads(request.body)  # nosemgrep: read-before-authentication  (whether it is JSON, no more)
    except RecursionError:
        return False
    except ValueError:
        return True
    return False


def check_addressee(payload: Json, credentials: Credentials) -> None:
    """The signature covers no body, so the robot and the company it names must be ours. Raises AuthenticationError.

    Only a notice of the platform, which is never answered, may come without its company.
    """
    if payload.get("robotCode", credentials.app_id) not in (robot_code(credentials), credentials.app_id):
        raise AuthenticationError("the message is for another robot")
    corp_id = payload.get("chatbotCorpId")
    is_nameless_notice = corp_id is None and error_code(payload) != ""
    if credentials.corp_id and corp_id != credentials.corp_id and not is_nameless_notice:
        raise AuthenticationError("the message is from another company")


def check_company(corp_id: Any, credentials: Credentials) -> None:
    """Of events and card actions. Raises AuthenticationError."""
    if credentials.corp_id and corp_id not in (None, credentials.corp_id):
        raise AuthenticationError("the event is from another company")


def robot_code(credentials: Credentials) -> str:
    """An internal app's robot code is its client id. Source: PROTOCOL.md, "Message body"."""
    return credentials.robot_code or credentials.app_id


def error_code(payload: Json) -> str:
    code = payload.get("errorCode")
    return "" if code in (None, 0, "0", "") else str(code)


def _open_card_action(request: WebhookRequest, credentials: Credentials, now_ms: int) -> PressedButton:
    verify_card_callback(request.headers, card_secret(credentials.app_secret), now_ms)
    payload = PressedButton(strict_object(request.body))
    check_company(payload.get("corpId"), credentials)
    return payload


def _open_event(request: WebhookRequest, credentials: Credentials, now_ms: int) -> SealedEvent | Challenge:
    keys = _keys(credentials)
    check_event_age(request.query.get("timestamp") or request.query.get("timeStamp", ""), now_ms)
    encrypted = as_text(strict_object(request.body).get("encrypt"))
    payload = SealedEvent(strict_object(keys.open(request.query, encrypted)))
    if payload.get("EventType") == CHECK_URL:
        return Challenge(_sealed_success(request, credentials))
    check_company(payload.get("CorpId"), credentials)
    return payload


def _keys(credentials: Credentials) -> EventKeys:
    """The owner of an internal app's events is its client id; formerly it was the company."""
    if not (credentials.verification_token and credentials.encrypt_key):
        raise AuthenticationError("events are not set up: the credential lacks their token or AES key")
    owners = (credentials.app_id, *filter(None, [credentials.corp_id]))
    return EventKeys(credentials.verification_token, credentials.encrypt_key, owners)


def _sealed_success(request: WebhookRequest, credentials: Credentials) -> dict[str, str]:
    return _keys(credentials).seal(SUCCESS, str(int(request.received_at_s * 1000)))
