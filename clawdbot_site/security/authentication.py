"""Who is calling over REST and in the admin: by access token, by API key, by session cookie, by password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from clawdbot_site.security import second_factor, sessions
from clawdbot_site.security.models import User
from clawdbot_site.security.principals import Principal, Refused, authenticate_access, authenticate_key, note_refusal
from clawdbot_site.security.roles import scopes_of
from clawdbot_site.security.throttling import TooManyAttempts, address_of, begin_attempt
from monitoring import audit
from monitoring.context import Actor, bind

OPENAI_PATHS: Final = "/v1/"  # OpenAI's clients can only send their key as Bearer

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
            note_refusal(error, getattr(request.resolver_match, "route", ""))
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
