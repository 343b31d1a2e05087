"""Time-based one-time codes (RFC 6238: SHA-1, 6 digits, 30 seconds), as every authenticator app makes them. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final
from urllib.parse import quote, urlencode

from django.utils.crypto import constant_time_compare

PERIOD_S: Final = 30
DIGITS: Final = 6
SECRET_BYTES: Final = 20
TOLERATED_STEPS: Final = 1  # clocks of phones are off, and people type slowly


def new_secret() -> str:
    """Base32, as apps take it when somebody types it in."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def step_at(now_s: float) -> int:
    return int(now_s) // PERIOD_S


def code_of(secret: str, step: int) -> str:
    digest = hmac.digest(base64.b32decode(secret), step.to_bytes(8, "big"), hashlib.sha1)
    begin = digest[-1] & 0x0F
    number = int.from_bytes(digest[begin : begin + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(secret: str, code: str, now_s: float) -> int | None:
    """The step whose code this is, now or one step off; None: the code is wrong."""
    now = step_at(now_s)
    near = range(now - TOLERATED_STEPS, now + TOLERATED_STEPS + 1)
    found = [step for step in near if constant_time_compare(code_of(secret, step), code)]
    return found[-1] if found else None


def provisioning_uri(secret: str, account: str, issuer: str) -> str:
    """What the QR code holds."""
    label = quote(f"{issuer}:{account}")
    return f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': issuer}, quote_via=quote)}"
