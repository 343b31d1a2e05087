"""How far a browser's sign-in has come, and how long it lasts. What the session itself remembers of it.

A password alone is no sign-in where a second factor is needed: until that is proved, the request has no user, so
nothing that looks at ``request.user`` opens (``request.signing_in`` names the account to the pages that ask for the
code). A session ends after a while without a request, and after so many hours in any case.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from django.conf import settings
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.http import HttpRequest
from django.middleware.csrf import rotate_token
from django.utils.deprecation import MiddlewareMixin

from clawdbot_site.security import second_factor
from clawdbot_site.security.models import User
from monitoring import audit
from monitoring.context import Actor, bind

KEY: Final = "sign_in"
SEEN_EVERY_S: Final = 60.0  # not a write for each request
RECENT_S: Final = 15 * 60.0
SENDING_S: Final = 5 * 60.0  # longer for a form that was opened in time

Factor = Literal["waiting", "none", "app", "recovery code"]


@dataclass(frozen=True, slots=True)
class SignIn:
    """Unix times of the password, the last request, and the last proof of who sits there; and the second factor."""

    at: float
    seen_at: float
    proved_at: float
    factor: Factor

    def is_over(self, now: float) -> bool:
        idle_s, lifetime_s = settings.SESSION_IDLE_S, settings.SESSION_LIFETIME_S
        return now - self.at > lifetime_s or bool(idle_s and now - self.seen_at > idle_s)


def begin(session: SessionBase, user: User) -> SignIn:
    """The password was right: note it, and whether a second factor is still to come."""
    now = time.time()
    factor: Factor = "waiting" if second_factor.is_needed(user) else "none"
    return _keep(session, SignIn(now, now, now, factor))


def of(session: SessionBase, user: User) -> SignIn:
    """Sessions from before there was this are taken up as if they began now."""
    stored = session.get(KEY)
    try:
        return SignIn(**stored) if stored else begin(session, user)
    except TypeError:  # written by another version
        return begin(session, user)


def is_complete(sign_in: SignIn, user: User) -> bool:
    """Whether the second factor was used in this very sign-in, or none is needed of this account (rule A6)."""
    if sign_in.factor == "waiting":
        return False
    return sign_in.factor != "none" or not second_factor.is_required_of(user)


def is_standing(session: SessionBase, user: User) -> bool:
    """For long connections, which pass no middleware."""
    stored = session.get(KEY)
    if not stored:
        return not second_factor.is_needed(user)
    sign_in = of(session, user)
    return not sign_in.is_over(time.time()) and is_complete(sign_in, user)


def complete(request: HttpRequest, user: User, method: Factor) -> None:
    """The second factor was proved: from now on this request and session are the account's."""
    now = time.time()
    request.user = user
    _keep(request.session, SignIn(of(request.session, user).at, now, now, method))
    update_session_auth_hash(request, user)  # under a new session key
    rotate_token(request)


def keep(request: HttpRequest, user: User) -> None:
    """Go on with this session after all of the account's were ended."""
    update_session_auth_hash(request, user)


def prove_again(request: HttpRequest, user: User) -> None:
    sign_in = of(request.session, user)
    now = time.time()
    _keep(request.session, SignIn(sign_in.at, now, now, sign_in.factor))


def is_recent(request: HttpRequest) -> bool:
    """Whether it was proved a short while ago who sits there. A form that was opened in time may still be sent."""
    if not isinstance(request.user, User):
        return False
    age_s = time.time() - of(request.session, request.user).proved_at
    return age_s <= RECENT_S + (SENDING_S if request.method == "POST" else 0)


def touch(session: SessionBase, user: User) -> None:
    """Somebody is there. Written once a minute."""
    sign_in, now = of(session, user), time.time()
    if now - sign_in.seen_at < SEEN_EVERY_S:
        return
    _keep(session, SignIn(sign_in.at, now, sign_in.proved_at, sign_in.factor))


def touch_apart(session: SessionBase, user: User) -> None:
    """The same for a long connection, which must save the session by itself."""
    touch(session, user)
    if session.modified:
        try:
            session.save()
        except UpdateError:
            return  # it ended meanwhile


def _keep(session: SessionBase, sign_in: SignIn) -> SignIn:
    session[KEY] = asdict(sign_in)
    return sign_in


class SessionLimits(MiddlewareMixin):
    """Inside of AuthenticationMiddleware: ends sessions whose time is over, and hides accounts halfway in."""

    def process_request(self, request: Any) -> None:
        request.signing_in = None
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or not isinstance(request.user, User):
            return
        user, sign_in = request.user, of(request.session, request.user)
        if sign_in.is_over(time.time()):
            _end(request, user)
        elif is_complete(sign_in, user):
            touch(request.session, user)
        else:
            request.user, request.auser, request.signing_in = AnonymousUser(), _nobody, user


async def _nobody() -> AnonymousUser:
    return AnonymousUser()


def _end(request: HttpRequest, user: User) -> None:
    with bind(actor=Actor("user", str(user.pk), user.get_username())):
        audit.record("auth.session_ended", target=user, reason="time is over")
    request.user = AnonymousUser()  # so that it is not written as a sign-out by hand
    logout(request)
