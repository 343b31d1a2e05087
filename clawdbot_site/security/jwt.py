"""Access tokens (JWT, ES256): issued and checked. Knows no request and no view.

An access token lives five minutes and is checked without the database. Its signing keys come from our own ring only
(``signing_keys.py``): nothing in a token's header can name another key or algorithm.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.conf import settings
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError

from clawdbot_site.security import signing_keys
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.signing_keys import ACCESS_LIFETIME_S as ACCESS_LIFETIME_S
from clawdbot_site.security.signing_keys import ALGORITHM, LEEWAY_S

TYPE: Final = "at+jwt"  # RFC 9068
AUDIENCE: Final = "clawdbot"
MAX_TOKEN_CHARS: Final = 4096

Kind = Literal["user", "client"]


class TokenError(Exception):
    """The token is not one of ours, or not valid any more; ``expired`` means that a refresh will help."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


@dataclass(frozen=True, slots=True)
class Claims:
    """A verified access token: whose it is, what it was issued for, until when (Unix time)."""

    kind: Kind
    id: uuid.UUID
    scopes: frozenset[str]
    jti: str
    expires_at: int


def issue_access(owner: User | ApiClient, scopes: Iterable[str], *, now: float | None = None) -> str:
    """A signed access token for a person or a client, good for ``ACCESS_LIFETIME_S``."""
    kid, key = signing_keys.ring.signing_key()
    issued = int(time.time() if now is None else now)
    claims = {
        "iss": settings.PUBLIC_URL,
        "aud": AUDIENCE,
        "sub": f"{'user' if isinstance(owner, User) else 'client'}:{owner.pk}",
        "scope": " ".join(sorted(scopes)),
        "jti": secrets.token_urlsafe(16),
        "iat": issued,
        "nbf": issued,
        "exp": issued + ACCESS_LIFETIME_S,
    }
    return str(jwt.encode({"alg": ALGORITHM, "typ": TYPE, "kid": kid}, claims, key, algorithms=[ALGORITHM]))


def verify_access(token: str, *, now: float | None = None) -> Claims:
    """Check everything about an access token (rule A1) and return what it says. Raises TokenError."""
    moment = time.time() if now is None else now
    key = signing_keys.ring.verifying_key(_kid_of(token), moment)
    if key is None:
        raise TokenError("The access token is signed with a key that is not ours, or not any more.")
    try:
        claims = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
        _registry(moment).validate(claims)
    except ExpiredTokenError:
        raise TokenError("The access token has expired. Get a new one with the refresh token.", expired=True) from None
    except (JoseError, ValueError, TypeError):
        raise TokenError("The access token is not valid.") from None
    return _read(claims)


def _registry(now: float) -> jwt.JWTClaimsRegistry:
    present: dict[str, Any] = {name: {"essential": True} for name in ("exp", "nbf", "iat", "jti", "sub")}
    ours: dict[str, Any] = {
        "iss": {"essential": True, "value": settings.PUBLIC_URL},
        "aud": {"essential": True, "value": AUDIENCE},
    }
    return jwt.JWTClaimsRegistry(now=int(now), leeway=LEEWAY_S, **present, **ours)


def _kid_of(token: str) -> str:
    """The key id of a token whose header is exactly ours: no other algorithm, type, key address or embedded key."""
    head = token.partition(".")[0] if len(token) <= MAX_TOKEN_CHARS and token.count(".") == 2 else ""
    try:
        header = json.loads(base64.urlsafe_b64decode(head.encode("ascii") + b"=" * (-len(head) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        header = None
    if not isinstance(header, dict) or set(header) != {"alg", "typ", "kid"}:
        raise TokenError("This is not an access token of ours.")
    if header["alg"] != ALGORITHM or header["typ"] != TYPE or not isinstance(header["kid"], str):
        raise TokenError("This is not an access token of ours.")
    return header["kid"]


def _read(claims: Mapping[str, Any]) -> Claims:
    kind, _, identity = str(claims["sub"]).partition(":")
    scope, scopes = claims.get("scope"), str(claims.get("scope", "")).split()
    try:
        owner = uuid.UUID(identity)
    except ValueError:
        raise TokenError("The access token names nobody.") from None
    if kind not in ("user", "client") or not isinstance(scope, str) or not claims["jti"]:
        raise TokenError("The access token is not complete.")
    return Claims("user" if kind == "user" else "client", owner, frozenset(scopes), claims["jti"], int(claims["exp"]))
