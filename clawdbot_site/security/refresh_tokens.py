"""Refresh tokens (opaque): issued, exchanged, revoked. Knows no request and no view.

Each is used once; when one is used a second time, somebody else has a copy, and all its successors die with it.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from clawdbot_site.security import second_factor
from clawdbot_site.security.jwt import TokenError
from clawdbot_site.security.models import ApiClient, RefreshToken, User
from monitoring import audit

REFRESH_LIFETIME: Final = timedelta(days=14)  # of a whole family: refreshing does not prolong it


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
