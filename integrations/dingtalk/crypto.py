"""The signature of DingTalk's HTTP robot callback. Pure; knows neither bodies nor credentials' storage."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

from django.utils.crypto import constant_time_compare

from integrations.errors import AuthenticationError

WINDOW_MS = 3_600_000  # either way


def callback_signature(timestamp_ms: str, app_secret: str) -> str:
    """Return the base64 HMAC-SHA256 that DingTalk sends in the ``sign`` header.

    Signed text: timestamp, newline, secret; the body is not covered, so repeats are caught by message id.
    Source: PROTOCOL.md, "Callback signature".
    """
    text = f"{timestamp_ms}\n{app_secret}".encode()
    return base64.b64encode(hmac.new(app_secret.encode(), text, hashlib.sha256).digest()).decode()


def verify_callback(headers: Mapping[str, str], app_secret: str, now_ms: int) -> None:
    """Check ``timestamp`` and ``sign``, named in lower case. Raises AuthenticationError.

    Source: PROTOCOL.md, "Callback signature".
    """
    timestamp, sign = headers.get("timestamp", "").strip(), headers.get("sign", "").strip()
    if not (timestamp and sign and app_secret):
        raise AuthenticationError("missing header: timestamp and sign are both needed")
    if not re.fullmatch(r"[0-9]{1,15}", timestamp):
        raise AuthenticationError("bad timestamp: not a number of milliseconds")
    if abs(now_ms - int(timestamp)) > WINDOW_MS:
        raise AuthenticationError("timestamp out of window: more than an hour from this host's clock")
    if not (sign.isascii() and constant_time_compare(sign, callback_signature(timestamp, app_secret))):
        raise AuthenticationError("sign mismatch: made with another app secret")
