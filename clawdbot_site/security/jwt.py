"""Access tokens (JWT, ES256) and refresh tokens (opaque): made, checked, rotated. Knows no request and no view.

An access token lives five minutes and is checked without the database. Its signing keys come from our own ring only:
nothing in a token's header can name another key or algorithm. A refresh token is used once; when one is used a
second time, somebody else has a copy, and all its successors die with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.apps import apps as installed_apps
from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey

from clawdbot_site.security import second_factor
from clawdbot_site.security.models import ApiClient, RefreshToken, SigningKey, User
from monitoring import audit

logger = logging.getLogger(__name__)

ALGORITHM: Final = "ES256"
TYPE: Final = "at+jwt"  # RFC 9068
AUDIENCE: Final = "clawdbot"
ACCESS_LIFETIME_S: Final = 300
REFRESH_LIFETIME: Final = timedelta(days=14)  # of a whole family: refreshing does not prolong it
LEEWAY_S: Final = 5
MAX_TOKEN_CHARS: Final = 4096
RING_LIFETIME_S: Final = 60.0
UNKNOWN_KID_EVERY_S: Final = 5.0
# How long a key is believed after it stopped signing: a process may sign with it until it reads the ring again.
PREVIOUS_LIFETIME: Final = timedelta(seconds=2 * RING_LIFETIME_S + ACCESS_LIFETIME_S + LEEWAY_S)

# So long a new key must have been published before it signs: by then every process has read it.
PUBLISHED_FOR: Final = timedelta(seconds=2 * RING_LIFETIME_S)

Kind = Literal["user", "client"]


class TokenError(Exception):
    """The token is not one of ours, or not valid any more; ``expired`` means that a refresh will help."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class TooSoon(Exception):
    """The next signing key is not known to every process yet; in a minute or two it is."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A verified access token: whose it is, what it was issued for, until when (Unix time)."""

    kind: Kind
    id: uuid.UUID
    scopes: frozenset[str]
    jti: str
    expires_at: int


# -- access tokens --


def issue_access(owner: User | ApiClient, scopes: Iterable[str], *, now: float | None = None) -> str:
    """A signed access token for a person or a client, good for ``ACCESS_LIFETIME_S``."""
    kid, key = ring.signing_key()
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
    key = ring.verifying_key(_kid_of(token), moment)
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


# -- signing keys --


@dataclass(frozen=True, slots=True)
class _Ring:
    signing: tuple[str, ECKey]
    verifying: Mapping[str, tuple[ECKey, float | None]]
    read_at: float


class Ring:
    """The signing keys in this process's memory. Read again each minute, and at an unknown key id, but not for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring: _Ring | None = None
        self._unknown_at = -UNKNOWN_KID_EVERY_S

    def signing_key(self) -> tuple[str, ECKey]:
        return self._fresh().signing

    def verifying_key(self, kid: str, now: float) -> ECKey:
        found = self._fresh().verifying.get(kid) or self._after_reload(kid)
        if found is None or (found[1] is not None and found[1] < now):
            raise TokenError("The access token is signed with a key that is not ours, or not any more.")
        return found[0]

    def forget(self) -> None:
        """Read the keys again at the next use."""
        self._ring, self._unknown_at = None, -UNKNOWN_KID_EVERY_S

    def _fresh(self) -> _Ring:
        ring = self._ring
        if ring and time.monotonic() - ring.read_at < RING_LIFETIME_S:
            return ring
        with self._lock:
            return self._read_or_keep()

    def _after_reload(self, kid: str) -> tuple[ECKey, float | None] | None:
        """Another process may just have rotated. Limited, so that made-up key ids do not become queries."""
        with self._lock:
            if time.monotonic() - self._unknown_at < UNKNOWN_KID_EVERY_S:
                return None
            self._unknown_at = time.monotonic()
            self._ring = read_ring()
            return self._ring.verifying.get(kid)

    def _read_or_keep(self) -> _Ring:
        try:
            self._ring = read_ring()
        except DatabaseError:
            if self._ring is None:
                raise
            logger.warning("signing keys not read again, the database is unreachable")
        return self._ring


ring = Ring()


def read_ring() -> _Ring:
    rows = list(SigningKey.objects.exclude(state=SigningKey.State.RETIRED))
    if not any(row.state == SigningKey.State.CURRENT for row in rows):
        _make_first_keys()
        rows = list(SigningKey.objects.exclude(state=SigningKey.State.RETIRED))
    current = next(row for row in rows if row.state == SigningKey.State.CURRENT)
    return _Ring(
        signing=(current.kid, ECKey.import_key(current.private_pem)),
        verifying={row.kid: (ECKey.import_key(row.public_jwk), _end(row)) for row in rows},
        read_at=time.monotonic(),
    )


def _end(row: SigningKey) -> float | None:
    return row.not_after.timestamp() if row.not_after else None


def _make_first_keys() -> None:
    try:
        with transaction.atomic():
            _make_key(SigningKey.State.CURRENT, timezone.now())
            _make_key(SigningKey.State.NEXT)
    except IntegrityError:
        logger.info("another process made the first signing keys")


def after_migrate(apps: Any = installed_apps, **kwargs: Any) -> None:
    """Receiver of post_migrate: the keys are there before the first request, which might be rolled back."""
    try:
        apps.get_model("security", "SigningKey")
    except LookupError:  # migrated back to before there were keys
        return
    ring.forget()
    ring.signing_key()


def _make_key(state: SigningKey.State, signs_since: datetime | None = None) -> SigningKey:
    key = ECKey.generate_key("P-256", private=True)
    kid = key.thumbprint()
    public = {**key.as_dict(private=False), "kid": kid, "alg": ALGORITHM, "use": "sig"}
    pem = key.as_pem(private=True).decode()
    return SigningKey.objects.create(kid=kid, private_pem=pem, public_jwk=public, state=state, signs_since=signs_since)


@transaction.atomic
def rotate_signing_keys() -> SigningKey:
    """Let the published next key sign, make another next one, and retire what nobody believes any more (rule A3)."""
    ring.signing_key()  # makes the first keys on a new site
    now, states = timezone.now(), SigningKey.State
    rows = {row.state: row for row in SigningKey.objects.select_for_update().filter(state__in=["current", "next"])}
    retire_previous()
    _move(rows[states.CURRENT], states.PREVIOUS, not_after=now + PREVIOUS_LIFETIME)
    _move(rows[states.NEXT], states.CURRENT, signs_since=now)
    _make_key(states.NEXT)
    audit.record("signing_key.rotated", target=rows[states.NEXT], changes={"kid": rows[states.NEXT].kid})
    transaction.on_commit(ring.forget)
    return rows[states.NEXT]


def rotate_by_hand() -> SigningKey:
    """As ``rotate_signing_keys``, but never before every process knows the next key. Raises TooSoon."""
    ring.signing_key()
    next_key = SigningKey.objects.get(state=SigningKey.State.NEXT)
    known_at = next_key.created_at + PUBLISHED_FOR
    if (wait_s := (known_at - timezone.now()).total_seconds()) > 0:
        raise TooSoon(f"The next key is not known to every process yet. Try again in {wait_s:.0f} s.")
    return rotate_signing_keys()


@transaction.atomic
def rotate_if_due(after: timedelta) -> SigningKey | None:
    """For the scheduler: let the next key sign when the current one has signed for so long."""
    ring.signing_key()
    current = SigningKey.objects.select_for_update().get(state=SigningKey.State.CURRENT)
    is_due = timezone.now() - signs_since(current) >= after
    return rotate_signing_keys() if is_due else None


def signs_since(current: SigningKey) -> datetime:
    return current.signs_since or current.created_at  # keys of before the field


def retire_previous() -> None:
    """Erase the private halves of keys that nobody believes any more."""
    for row in SigningKey.objects.filter(state=SigningKey.State.PREVIOUS, not_after__lt=timezone.now()):
        _move(row, SigningKey.State.RETIRED, private_pem="")


def _move(row: SigningKey, state: SigningKey.State, **fields: Any) -> None:
    row.state = state
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=["state", *fields])


def jwks() -> dict[str, list[dict[str, Any]]]:
    """The public keys of tokens that may be around now or soon: next, current, and previous while believed."""
    ring.signing_key()
    states = [SigningKey.State.NEXT, SigningKey.State.CURRENT, SigningKey.State.PREVIOUS]
    believed = Q(not_after=None) | Q(not_after__gt=timezone.now())
    return {"keys": list(SigningKey.objects.filter(believed, state__in=states).values_list("public_jwk", flat=True))}


# -- refresh tokens --


def issue_refresh(owner: User | ApiClient) -> str:
    """The first refresh token of a new family."""
    person = owner if isinstance(owner, User) else None
    return _new_refresh(
        user=person,
        client=None if isinstance(owner, User) else owner,
        sign_in_hash=_sign_in_hash(person),
        expires_at=timezone.now() + REFRESH_LIFETIME,
    )


def use_refresh(token: str) -> tuple[User | ApiClient, str]:
    """Exchange a refresh token for its successor, once. Raises TokenError; a second use revokes the family."""
    with transaction.atomic():
        # Write first: it takes the row (or SQLite's write lock), so of two uses at the same time one waits and loses.
        won = _usable(token).update(used_at=timezone.now())
        if won:
            return _succeed(RefreshToken.objects.select_related("user", "client").get(hash=_hash(token)))
    _punish_reuse(token)
    raise TokenError("The refresh token is not valid any more. Sign in again.")


def revoke_refresh(token: str) -> RefreshToken | None:
    """End the family of a refresh token; None when there is none to end."""
    row = RefreshToken.objects.filter(hash=_hash(token), revoked_at=None).first()
    if row:
        _revoke_family(row)
    return row


def _usable(token: str) -> Any:
    now = timezone.now()
    return RefreshToken.objects.filter(hash=_hash(token), used_at=None, revoked_at=None, expires_at__gt=now)


def _succeed(row: RefreshToken) -> tuple[User | ApiClient, str]:
    owner = row.user or row.client
    if owner is None or not _may_go_on(row):
        raise TokenError("The account or key behind this refresh token is disabled or changed. Sign in again.")
    return owner, _new_refresh(
        family=row.family,
        user=row.user,
        client=row.client,
        sign_in_hash=row.sign_in_hash,
        expires_at=row.expires_at,
    )


def _may_go_on(row: RefreshToken) -> bool:
    if row.client:
        return row.client.is_usable
    is_same_password = constant_time_compare(row.sign_in_hash, _sign_in_hash(row.user))
    if row.user is None or not row.user.is_active or not is_same_password:
        return False
    # The setting may have come after the sign-in: who must have a second factor and has none must sign in again.
    return not second_factor.is_required_of(row.user) or second_factor.is_set_up(row.user)


def _punish_reuse(token: str) -> None:
    row = RefreshToken.objects.filter(hash=_hash(token), used_at__isnull=False, revoked_at=None).first()
    if row:
        with transaction.atomic():
            _revoke_family(row)
            audit.record("token.reused", target=row.user or row.client, changes={"family": str(row.family)})


def _revoke_family(row: RefreshToken) -> None:
    RefreshToken.objects.filter(family=row.family, revoked_at=None).update(revoked_at=timezone.now())


def _new_refresh(**fields: Any) -> str:
    token = secrets.token_urlsafe(32)
    RefreshToken.objects.create(hash=_hash(token), **fields)
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _sign_in_hash(user: User | None) -> str:
    return user.get_session_auth_hash() if user else ""
