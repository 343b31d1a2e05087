"""Access tokens like ours but for one thing, and what stands in their headers."""

from __future__ import annotations

import base64
import json
import time

from joserfc import jwt as jose

from clawdbot_site.security import signing_keys


def forged(claims_change=None, header_change=None, key=None, drop=(), algorithms=("ES256",)):
    """A token like ours, but for what is given; signed with our own key unless another is given."""
    kid, own = signing_keys.ring.signing_key()
    now = int(time.time())
    claims = {"iss": "http://127.0.0.1:18789", "aud": "clawdbot", "sub": "user:00000000-0000-0000-0000-000000000001"}
    claims |= {"scope": "chat", "jti": "j", "iat": now, "nbf": now, "exp": now + 300} | (claims_change or {})
    header = {"alg": "ES256", "typ": "at+jwt", "kid": kid} | (header_change or {})
    claims = {name: value for name, value in claims.items() if name not in drop}
    header = {name: value for name, value in header.items() if name not in drop}
    return jose.encode(header, claims, key or own, algorithms=list(algorithms), default_type=None)


def b64(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def header_of(token: str) -> dict:
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
