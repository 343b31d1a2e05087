"""Who speaks on a WebSocket: by access token or by session cookie, from which page, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from clawdbot_site.security import sessions
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.principals import Principal, Refused, authenticate_access, note_refusal
from clawdbot_site.security.roles import scopes_of
from clawdbot_site.security.session_store import SessionStore
from monitoring.client_ip import client_ip


@database_sync_to_async  # type: ignore[untyped-decorator]  # channels has no types
def principal_from_token(token: str, scope: Mapping[str, Any]) -> Principal | None:
    """Who a WebSocket's first frame names; None: refuse it. ``scope`` is the connection's, for the address."""
    try:
        return authenticate_access(token, str(scope.get("clawdbot.client_ip") or client_ip(scope)))
    except Refused as error:
        note_refusal(error, "/ws/")
        return None


@database_sync_to_async  # type: ignore[untyped-decorator]  # channels has no types
def principal_from_session(scope: Mapping[str, Any]) -> Principal | None:
    """Who the session cookie of a page of this site names. A cookie from another site's page counts for nothing."""
    if not is_same_origin(scope):
        return None
    key = _cookies(scope).get(settings.SESSION_COOKIE_NAME, "")
    user = _user_of(SessionStore(key)) if key else None
    return Principal(user, scopes_of(user), session_key=key) if user else None


def _user_of(session: SessionStore) -> User | None:
    """Who is signed in by a session, with all that it needs."""
    user = get_user(SimpleNamespace(session=session))  # type: ignore[arg-type]  # it reads the session only
    return user if isinstance(user, User) and user.is_active and sessions.is_standing(session, user) else None


@database_sync_to_async  # type: ignore[untyped-decorator]  # channels has no types
def is_still_valid(principal: Principal, *, is_busy: bool = False) -> bool:
    """Whether the owner of a long connection may go on (rule A4: ask at least once a minute).

    ``is_busy``: something was said on it since the last time, so its session is not idle.
    """
    if principal.session_key:
        session = SessionStore(principal.session_key)
        owner = _user_of(session)
        if owner is None:
            return False
        if is_busy:
            sessions.touch_apart(session, owner)
    if isinstance(principal.user, User):
        user = User.objects.filter(pk=principal.user.pk).first()
        return user is not None and principal.scopes <= scopes_of(user)
    client = ApiClient.objects.filter(pk=principal.user.pk).first()
    return client is not None and client.is_usable and principal.scopes <= frozenset(client.scopes)


def is_same_origin(scope: Mapping[str, Any]) -> bool:
    """Whether a page of this site opened the connection: Origin is there, and names the host that was called."""
    origin, host = _header(scope, b"origin"), _header(scope, b"host")
    domain, _port = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and _place(parts.netloc) == _place(host)
    except ValueError:
        return False


def is_foreign_origin(scope: Mapping[str, Any]) -> bool:
    """Whether a page of another site opened the connection. Programs send no Origin and are not foreign."""
    return bool(_header(scope, b"origin")) and not is_same_origin(scope)


def _place(netloc: str) -> tuple[str, str]:
    """Host and port, where the usual ports of both schemes are the same: TLS may end in front of us."""
    domain, port = split_domain_port(netloc.lower())
    return domain, "" if port in ("80", "443") else port


def _header(scope: Mapping[str, Any], wanted: bytes) -> str:
    found = [value for name, value in scope.get("headers", ()) if name.lower() == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _cookies(scope: Mapping[str, Any]) -> dict[str, str]:
    try:
        return parse_cookie(_header(scope, b"cookie"))
    except CookieError:
        return {}
