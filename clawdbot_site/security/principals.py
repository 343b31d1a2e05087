"""Who is calling, known by an access token or an API key; authentication.py (REST) and sockets.py (WebSocket) ask.

The rows behind a token are read for each request (two small queries), so who is disabled is out at the next one.
What a caller may do is no matter of this module, except that a token never gives more than its owner has now.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from clawdbot_site.security.jwt import Claims, TokenError, verify_access
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.roles import scopes_of
from monitoring import audit
from monitoring.context import Actor


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


def note_refusal(error: Refused, where: str) -> None:
    """Record it, unless only a token had expired, which is no event. ``where`` is never a path: some hold a key."""
    if not (isinstance(error.__cause__, TokenError) and error.__cause__.expired):
        audit.record_refusal("access.refused", target_label=where, reason=str(error))
