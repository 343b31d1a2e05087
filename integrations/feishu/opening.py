"""From a request to an authentic payload: one JSON object, signature, decryption, token, bot, freshness.

Pure. No field of an event means anything before all of this has passed. Source: PROTOCOL.md, "Callbacks".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from django.utils.crypto import constant_time_compare

from integrations.errors import AuthenticationError, PayloadError
from integrations.feishu import crypto
from integrations.values import Challenge, Credentials, WebhookRequest

MAX_DEPTH = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # neither PostgreSQL nor UTF-8 takes them

Json = dict[str, Any]


def open_request(request: WebhookRequest, credentials: Credentials) -> Json | Challenge:
    """Return the authentic event, or the answer to a challenge. Raises PayloadError, AuthenticationError."""
    outer = json_object(request.body)
    is_signed = _check_signature(request, credentials)
    payload = _unsealed(outer, credentials)
    _check_token(payload, credentials)
    if payload.get("type") == "url_verification" and "schema" not in payload:
        return Challenge({"challenge": _challenge(payload)})
    _check_unsigned(is_signed, credentials)
    _check_bot(payload, credentials)
    if is_signed and not crypto.is_fresh(request.headers["x-lark-request-timestamp"], request.received_at_s):
        raise AuthenticationError("stale: the callback's timestamp is out of range")
    return payload


def json_object(body: bytes | str) -> Json:
    """Parse exactly one JSON object of strict UTF-8 and bounded depth; characters no database takes are replaced."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as problem:
        raise PayloadError("the body is not one JSON value") from problem
    if not isinstance(value, dict):
        raise PayloadError("the body is not a JSON object")
    cleaned: Json = value if _is_surely_clean(text) else _cleaned(value, MAX_DEPTH)
    return cleaned


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _is_surely_clean(text: str) -> bool:
    """Told from the text alone, as for nearly every event: walking the values costs more than all cryptography."""
    return "\\u" not in text and text.count("{") + text.count("[") < MAX_DEPTH


def _cleaned(value: Any, depth: int) -> Any:
    if depth == 0:
        raise PayloadError("the body is nested too deeply")
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_cleaned(key, depth): _cleaned(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, depth - 1) for item in value]
    return value


def _check_signature(request: WebhookRequest, credentials: Credentials) -> bool:
    """Return whether the request is signed; raise when its signature is wrong. Without a key it proves nothing."""
    names = ("x-lark-request-timestamp", "x-lark-request-nonce", "x-lark-signature")
    timestamp, nonce, signature = (request.headers.get(name, "") for name in names)
    if not credentials.encrypt_key or not (timestamp or nonce or signature):
        return False
    if not crypto.is_signed(timestamp, nonce, signature, credentials.encrypt_key, request.body):
        raise AuthenticationError("signature: it does not match the body")
    return True


def _unsealed(outer: Json, credentials: Credentials) -> Json:
    if not credentials.encrypt_key and "encrypt" not in outer:
        return outer
    if not credentials.encrypt_key:
        raise AuthenticationError("decryption: the platform encrypts, but no Encrypt Key is set here")
    if not isinstance(outer.get("encrypt"), str):
        raise AuthenticationError("decryption: the body is not encrypted although an Encrypt Key is set")
    try:
        return json_object(crypto.decrypt(outer["encrypt"], credentials.encrypt_key))
    except (ValueError, PayloadError) as problem:
        raise AuthenticationError("decryption: the body does not open with this Encrypt Key") from problem


def _check_token(payload: Json, credentials: Credentials) -> None:
    token = header(payload).get("token") if "schema" in payload else payload.get("token")
    expected = credentials.verification_token
    if not (expected and isinstance(token, str) and constant_time_compare(token, expected)):
        raise AuthenticationError("token: the Verification Token does not match")


def _check_unsigned(is_signed: bool, credentials: Credentials) -> None:
    """Only the challenge comes unsigned; without an Encrypt Key an admin must have accepted that risk."""
    if not is_signed and (credentials.encrypt_key or not credentials.allow_unsigned):
        raise AuthenticationError("signature: it is missing")


def _check_bot(payload: Json, credentials: Credentials) -> None:
    source = header(payload) if "schema" in payload else payload.get("event")
    app_id = source.get("app_id") if isinstance(source, dict) else None
    if app_id and app_id != credentials.app_id:
        raise AuthenticationError("app: the event is for another bot")


def _challenge(payload: Json) -> str:
    challenge = payload.get("challenge")
    if not isinstance(challenge, str):
        raise PayloadError("the challenge is not a text")
    return challenge


def header(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``header`` of a schema 2.0 event, empty where there is none."""
    found = payload.get("header")
    return found if isinstance(found, dict) else {}
