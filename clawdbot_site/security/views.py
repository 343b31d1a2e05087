"""Tokens for a password or an API key, and the public keys that verify them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clawdbot_site.security import jwt, refresh_tokens, second_factor, signing_keys
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.principals import ClientPrincipal, Principal, Refused, authenticate_key
from clawdbot_site.security.roles import scopes_of
from clawdbot_site.security.serializers import (
    JwkSetSerializer,
    RefreshSerializer,
    TokenRequestSerializer,
    TokensSerializer,
)
from clawdbot_site.security.throttling import TooManyAttempts, address_of, begin_attempt
from monitoring import audit
from monitoring.context import bind

REFUSED = OpenApiResponse(description="Wrong name, password, key or refresh token.")
TOO_MANY = OpenApiResponse(description="Too many attempts; `Retry-After` says how long to wait.")


class OtpRequired(AuthenticationFailed):
    default_code = "otp_required"


class OpenView(APIView):
    """A view for callers who are not signed in yet."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ClawdBot"'  # without it DRF answers 403 instead of 401


class TokenView(OpenView):
    @extend_schema(
        request=TokenRequestSerializer, responses={200: TokensSerializer, 401: REFUSED, 429: TOO_MANY}, auth=[]
    )
    def post(self, request: Request) -> Response:
        """Sign in with a password (and `otp`, where the account has a second factor) or an API key."""
        given = TokenRequestSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        data = given.validated_data
        owner = _by_key(request, data["api_key"]) if "api_key" in data else _by_password(request, data)
        with bind(actor=_principal(owner).audit_actor):
            audit.record("token.issued", target=owner)
            return _tokens(owner, refresh_tokens.issue_refresh(owner))


class RefreshView(OpenView):
    @extend_schema(request=RefreshSerializer, responses={200: TokensSerializer, 401: REFUSED}, auth=[])
    def post(self, request: Request) -> Response:
        """Exchange a refresh token, once, for a new pair."""
        try:
            owner, successor = refresh_tokens.use_refresh(_refresh_token(request))
        except jwt.TokenError as error:
            audit.record_refusal("token.refused", reason=str(error))
            raise AuthenticationFailed(str(error)) from None
        return _tokens(owner, successor)


class RevokeView(OpenView):
    @extend_schema(request=RefreshSerializer, responses={204: None}, auth=[])
    def post(self, request: Request) -> Response:
        """End a refresh token and all that came from the same sign-in. An unknown one is answered the same."""
        revoked = refresh_tokens.revoke_refresh(_refresh_token(request))
        if revoked and (owner := revoked.user or revoked.client):
            with bind(actor=_principal(owner).audit_actor):
                audit.record("token.revoked", target=owner)
        return Response(status=status.HTTP_204_NO_CONTENT)


class JwksView(OpenView):
    @extend_schema(responses=JwkSetSerializer, auth=[])
    def get(self, request: Request) -> Response:
        """The public keys of our access tokens (RFC 7517), the next one included."""
        return Response(signing_keys.jwks(), headers={"Cache-Control": "public, max-age=300"})


jwks = JwksView.as_view()


def _by_password(request: Request, data: dict[str, Any]) -> User:
    """The account of a name and a password; failures are counted and audited where the admin's are."""
    django_request = request._request
    user = authenticate(django_request, username=data["username"], password=data["password"])
    if retry_after_s := getattr(django_request, "sign_in_retry_after_s", None):
        raise Throttled(retry_after_s, _("Too many attempts to sign in."))
    if not isinstance(user, User):
        raise AuthenticationFailed(_("The name or the password is wrong."))
    if attempt := getattr(django_request, "sign_in_attempt", None):  # the password was right, and is not enough
        with bind(actor=_principal(user).audit_actor):
            _check_second_factor(user, data.get("otp") or "")
        attempt.succeeded()
    update_last_login(None, user)  # type: ignore[arg-type]  # Django takes None for the sender
    return user


def _check_second_factor(user: User, otp: str) -> None:
    """Rule A6. Without a right code the attempt stays counted, as for a wrong password."""
    if not second_factor.is_set_up(user):
        audit.record_refusal("auth.failed", target=user, reason="no second factor set up")
        raise OtpRequired(_("This account needs a second factor. Sign in at /admin/ once and set it up."))
    if not otp:
        raise OtpRequired(_("Send `otp` too: a code of the authenticator app, or a recovery code."))
    if second_factor.prove(user, otp) is None:
        audit.record_refusal("auth.failed", target=user, reason="wrong code")
        raise AuthenticationFailed(_("The code in `otp` is wrong, or was used before."))


def _by_key(request: Request, key: str) -> ApiClient:
    address = address_of(request)
    try:
        attempt = begin_attempt(None, address)
        principal = authenticate_key(key, address)
    except TooManyAttempts as error:
        raise Throttled(error.retry_after_s, _("Too many attempts to sign in.")) from None
    except Refused as error:
        audit.record_refusal("token.refused", reason=str(error))
        raise AuthenticationFailed(str(error)) from None
    attempt.succeeded()
    assert isinstance(principal.user, ClientPrincipal)
    return principal.user.client


def _refresh_token(request: Request) -> str:
    given = RefreshSerializer(data=request.data)
    given.is_valid(raise_exception=True)
    return str(given.validated_data["refresh"])


def _principal(owner: User | ApiClient) -> Principal:
    if isinstance(owner, User):
        return Principal(owner, scopes_of(owner))
    return Principal(ClientPrincipal(owner), frozenset(owner.scopes))


def _tokens(owner: User | ApiClient, refresh: str) -> Response:
    access = jwt.issue_access(owner, _principal(owner).scopes)
    body = {"access": access, "refresh": refresh, "expires_in": jwt.ACCESS_LIFETIME_S}
    return Response(body, headers={"Cache-Control": "no-store"})
