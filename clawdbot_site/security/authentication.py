"""Who is calling: by access token, by API key, by session cookie; over REST, in the admin and over WebSocket.

The rows behind a token are read for each request (two small queries), so who is disabled is out at the next one.
What a caller may do is no matter of this module, except that a token never gives more than its owner has now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, parse_cookie
from django.http.request import split_domain_port, validate_host
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from clawdbot_site.security import second_factor, sessions
from clawdbot_site.security.jwt import Claims, TokenError, verify_access
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.roles import scopes_of
from clawdbot_site.security.session_store import SessionStore
from clawdbot_site.security.throttling import TooManyAttempts, address_of, begin_attempt
from monitoring import audit
from monitoring.client_ip import client_ip
from monitoring.context import Actor, bind

OPENAI_PATHS: Final = "/v1/"  # OpenAI's clients can only send their key as Bearer


class ClientPrincipal:
    """A program that called with an API key. Stands where Django and DRF expect a user, and is none."""

    kind = "client"
    is_authenticated = True
    is_anonymous = False
    is_staff = False
    is_superuser = False

    def __init__(self, client: ApiClient) -> None:
        self.client = client

    @property
    def id(self) -> str:
        return str(self.client.pk)

    pk = id

    @property
    def name(self) -> str:
        return str(self.client.name)

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.client.scopes)

    @property
    def is_active(self) -> bool:
        return self.client.is_usable

    @property
    def audit_actor(self) -> Actor:
        return Actor("client", self.id, self.name)

    def get_username(self) -> str:
        return self.name

    def has_perm(self, permission: str, obj: object = None) -> bool:
        return False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Principal:
    """Who calls and what this call may do. ``expires_at`` (Unix time) ends a WebSocket; None: ``session_key`` does."""

    user: User | ClientPrincipal
    scopes: frozenset[str]
    expires_at: int | None = None
    session_key: str = field(default="", repr=False)

    @property
    def kind(self) -> str:
        return "user" if isinstance(self.user, User) else "client"

    @property
    def id(self) -> str:
        return str(self.user.pk)

    @cached_property
    def audit_actor(self) -> Actor:
        return Actor("user" if self.kind == "user" else "client", self.id, self.user.get_username())


class Refused(Exception):
    """The caller is not who it says, or may not call from here; the text says what to do."""


# -- the checks themselves --


def authenticate_access(token: str, address: str) -> Principal:
    """Check an access token, its owner as it is now, and for a key its networks. Raises Refused."""
    try:
        claims = verify_access(token)
    except TokenError as error:
        raise Refused(str(error)) from error
    principal = _person(claims) if claims.kind == "user" else _program(claims, address)
    return Principal(principal.user, principal.scopes & claims.scopes, claims.expires_at)


def authenticate_key(key: str, address: str) -> Principal:
    """Check an API key and where it is used from. Raises Refused."""
    client = ApiClient.objects.from_key(key)
    if client is None:
        raise Refused(_("This API key is unknown, expired or revoked."))
    return _admit(client, address)


def _person(claims: Claims) -> Principal:
    user = User.objects.filter(pk=claims.id, is_active=True).first()
    if user is None:
        raise Refused(_("This account is disabled."))
    return Principal(user, scopes_of(user))


def _program(claims: Claims, address: str) -> Principal:
    client = ApiClient.objects.filter(pk=claims.id).first()
    if client is None or not client.is_usable:
        raise Refused(_("The API key behind this token is expired or revoked."))
    return _admit(client, address)


def _admit(client: ApiClient, address: str) -> Principal:
    if not client.accepts(address):
        raise Refused(_("This API key may not be used from this address."))
    client.note_use()
    return Principal(ClientPrincipal(client), frozenset(client.scopes))


# -- REST --


class _HeaderAuthentication(BaseAuthentication):
    keyword = ""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        word, _space, credential = get_authorization_header(request).decode("latin-1").partition(" ")
        if word.lower() != self.keyword.lower():
            return None
        try:
            principal = self.check(request, credential.strip(), address_of(request))
        except Refused as error:
            _note_refusal(request, error)
            raise AuthenticationFailed(str(error)) from None
        return principal.user, principal

    def authenticate_header(self, request: Request) -> str:
        return f'{self.keyword} realm="ClawdBot"'

    def check(self, request: Request, credential: str, address: str) -> Principal:
        raise NotImplementedError


class BearerAuthentication(_HeaderAuthentication):
    """``Authorization: Bearer <access token>``; under ``/v1/`` an API key as well."""

    keyword = "Bearer"

    def check(self, request: Request, credential: str, address: str) -> Principal:
        if request.path.startswith(OPENAI_PATHS) and credential.count(".") < 2:
            return authenticate_key(credential, address)
        return authenticate_access(credential, address)


class ApiKeyAuthentication(_HeaderAuthentication):
    """``Authorization: Api-Key <key>``."""

    keyword = "Api-Key"

    def check(self, request: Request, credential: str, address: str) -> Principal:
        return authenticate_key(credential, address)


class StaffSessionAuthentication(SessionAuthentication):
    """The admin's session cookie, with CSRF protection, for pages of this site that call the API. Not a default."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is None or not isinstance(found[0], User):
            return None
        return found[0], Principal(found[0], scopes_of(found[0]))


def _note_refusal(request: Request, error: Refused) -> None:
    if not _is_everyday(error):
        route = getattr(request.resolver_match, "route", "")  # never the path: some hold a key
        audit.record_refusal("access.refused", target_label=route, reason=str(error))


def _is_everyday(error: Refused) -> bool:
    """An expired token is no event."""
    return isinstance(error.__cause__, TokenError) and error.__cause__.expired


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # spectacular has no types
    target_class = "clawdbot_site.security.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the same
    target_class = "clawdbot_site.security.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        text = "`Api-Key <key>`"
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": text}


# -- passwords --


class LimitedBackend(ModelBackend):
    """Names and passwords, with a limit on guessing (rule A10) that the login page and the token endpoint share.

    Over the limit it denies without looking, and leaves ``sign_in_retry_after_s`` on the request for whoever asked.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if request is None or username is None or password is None:
            return super().authenticate(request, username, password, **kwargs)
        try:
            attempt = begin_attempt(username, address_of(request))
        except TooManyAttempts as error:
            request.sign_in_retry_after_s = error.retry_after_s  # type: ignore[attr-defined]  # read by our error shape
            raise PermissionDenied(str(error)) from None
        user = super().authenticate(request, username, password, **kwargs)
        if isinstance(user, User) and second_factor.is_needed(user):
            request.sign_in_attempt = attempt  # type: ignore[attr-defined]  # right only with the second factor
        elif user:
            attempt.succeeded()
        return user


def note_sign_in(request: HttpRequest | None, user: User, **kwargs: object) -> None:
    """Receiver: somebody gave a right password on the admin's login page, which may not be all that is needed."""
    sign_in = sessions.begin(request.session, user) if request is not None else None
    is_half = sign_in is not None and sign_in.factor == "waiting"
    with bind(actor=Actor("user", str(user.pk), user.get_username())):
        audit.record("auth.password_accepted" if is_half else "auth.signed_in", target=user)


def note_sign_out(request: HttpRequest | None, user: User | None, **kwargs: object) -> None:
    if user is not None:
        with bind(actor=Actor("user", str(user.pk), user.get_username())):
            audit.record("auth.signed_out", target=user)


def note_failure(credentials: Mapping[str, Any], request: HttpRequest | None = None, **kwargs: object) -> None:
    """Receiver: a name and password were wrong. An unknown name is not kept: it may be a password typed too early."""
    if getattr(request, "sign_in_retry_after_s", None):
        audit.record_refusal("auth.refused", reason="too many attempts")
        return
    user = User.objects.filter(username=credentials.get("username") or "").first()
    audit.record_refusal("auth.failed", target=user, reason="wrong password" if user else "unknown account")


# -- WebSocket --


@database_sync_to_async  # type: ignore[untyped-decorator]  # channels has no types
def principal_from_token(token: str, scope: Mapping[str, Any]) -> Principal | None:
    """Who a WebSocket's first frame names; None: refuse it. ``scope`` is the connection's, for the address."""
    try:
        return authenticate_access(token, str(scope.get("clawdbot.client_ip") or client_ip(scope)))
    except Refused as error:
        if not _is_everyday(error):
            audit.record_refusal("access.refused", target_label="/ws/", reason=str(error))
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
