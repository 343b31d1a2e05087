"""Pages of the admin around signing in: the second factor, setting it up, proving again who sits there, one's sign-in.

The pages of a second factor serve who is halfway in (``request.signing_in``) and, for another phone, who is in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import qrcode
from django import forms
from django.contrib import messages
from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from clawdbot_site.security import second_factor, sessions
from clawdbot_site.security.models import SecondFactor, User
from clawdbot_site.security.throttling import TooManyAttempts, address_of, begin_attempt
from monitoring import audit
from monitoring.context import Actor, bind

NEXT: Final = "next"
CODE_ATTRS: Final = {"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True, "maxlength": 32}
WAIT: Final = gettext_lazy("Too many attempts to sign in. Wait five minutes, then try again.")
WRONG_CODE: Final = gettext_lazy("This code is not right. Each code is good once; wait for the next one.")
View = Callable[..., HttpResponse]


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code"), max_length=32, widget=UnfoldAdminTextInputWidget(attrs=CODE_ATTRS)
    )


class PasswordForm(forms.Form):
    password = forms.CharField(
        label=gettext_lazy("Password"),
        max_length=1000,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password", "autofocus": True}),
    )


def _guarded(view: View) -> View:
    return never_cache(csrf_protect(sensitive_post_parameters()(view)))


# -- signing in --


@_guarded
def second_step(request: HttpRequest) -> HttpResponse:
    """The code after the password. Who has no second factor yet is led to setting one up."""
    user = getattr(request, "signing_in", None)
    if user is None:
        return HttpResponseRedirect(_next(request))
    if not second_factor.is_set_up(user):
        return HttpResponseRedirect(_with_next("admin:second_factor_set_up", request))
    form = CodeForm(request.POST or None)
    if form.is_valid() and (method := _proved(request, user, form)):
        _finish(request, user, method)
        return HttpResponseRedirect(_next(request))
    return _page(request, "security/second_factor.html", _("Second factor"), form=form, account=user)


@_guarded
def set_up(request: HttpRequest) -> HttpResponse:
    """A QR code for the authenticator app; its first code brings the recovery codes, on this page and never again."""
    user = _who_may_set_up(request)
    if isinstance(user, HttpResponse):
        return user
    form = CodeForm(request.POST or None)
    if form.is_valid() and (codes := _set_up(request, user, form)):
        return _codes_page(request, codes)
    secret = second_factor.pending_secret(user)
    shown: dict[str, Any] = {"secret": " ".join(secret[begin : begin + 4] for begin in range(0, len(secret), 4))}
    shown |= {"form": form, "account": user, "qr": _qr(second_factor.uri_of(secret, user))}
    shown |= {"is_required": getattr(request, "signing_in", None) is not None}
    return _page(request, "security/set_up.html", _("Set up a second factor"), **shown)


def _who_may_set_up(request: HttpRequest) -> User | HttpResponse:
    """Who is halfway in and has no second factor, or who is in and proved it a short while ago."""
    half: User | None = getattr(request, "signing_in", None)
    if half is not None:
        if second_factor.is_set_up(half):
            return HttpResponseRedirect(_with_next("admin:second_factor", request))
        return half
    if not site.has_permission(request) or not isinstance(request.user, User):
        return HttpResponseRedirect(_with_next("admin:login", request))
    return request.user if sessions.is_recent(request) else ask_again(request)


def _set_up(request: HttpRequest, user: User, form: forms.Form) -> list[str] | None:
    try:
        attempt = begin_attempt(user.get_username(), address_of(request), steps=2)
    except TooManyAttempts:
        form.add_error("code", WAIT)
        return None
    with bind(actor=_actor(user)):
        codes = second_factor.set_up(user, form.cleaned_data["code"])
        if codes is None:
            audit.record_refusal("second_factor.refused", target=user, reason="wrong code at set-up")
            form.add_error("code", WRONG_CODE)
            return None
    attempt.succeeded()
    _finish(request, user, "app")
    return codes


def _proved(request: HttpRequest, user: User, form: forms.Form) -> second_factor.Method | None:
    """How the code proves the account; the form says why not. Counts as guessing a password does (rule A10)."""
    try:
        attempt = begin_attempt(user.get_username(), address_of(request), steps=2)
    except TooManyAttempts:
        audit.record_refusal("auth.refused", target=user, reason="too many attempts")
        form.add_error("code", WAIT)
        return None
    with bind(actor=_actor(user)):
        method = second_factor.prove(user, form.cleaned_data["code"])
        if method is None:
            audit.record_refusal("auth.failed", target=user, reason="wrong code")
            form.add_error("code", WRONG_CODE)
            return None
    attempt.succeeded()
    return method


def _finish(request: HttpRequest, user: User, method: second_factor.Method) -> None:
    was_half = getattr(request, "signing_in", None) is not None
    sessions.complete(request, user, method)
    if was_half:
        request.signing_in = None  # type: ignore[attr-defined]  # set by our middleware
        with bind(actor=_actor(user)):
            audit.record("auth.signed_in", target=user, changes={"second_factor": method})
    if method == "recovery code":
        left = second_factor.codes_left(user)
        messages.warning(request, _("That was a recovery code; %(left)s are left.") % {"left": left})


# -- proving again --


def ask_again(request: HttpRequest) -> HttpResponse:
    """To the page that asks once more, and from there back. What was sent is not kept: it may be a secret."""
    if request.method == "POST":
        messages.warning(request, _("Nothing was changed yet: confirm that it is you, then do it again."))
    back = request.get_full_path() if request.method == "GET" else request.path
    return HttpResponseRedirect(f"{reverse('admin:prove_again')}?{urlencode({NEXT: back})}")


@_guarded
def prove_again(request: HttpRequest) -> HttpResponse:
    """Before sensitive actions: the second factor, or the password of who has none."""
    user = request.user
    if not isinstance(user, User):
        raise PermissionDenied
    has_factor = second_factor.is_set_up(user)
    form: forms.Form = CodeForm(request.POST or None) if has_factor else PasswordForm(request.POST or None)
    if form.is_valid() and (_proved(request, user, form) if has_factor else _knows_password(request, user, form)):
        sessions.prove_again(request, user)
        audit.record("auth.proved_again", target=user)
        return HttpResponseRedirect(_next(request))
    return _page(request, "security/prove_again.html", _("Confirm that it is you"), form=form, has_factor=has_factor)


def _knows_password(request: HttpRequest, user: User, form: forms.Form) -> bool:
    try:
        attempt = begin_attempt(user.get_username(), address_of(request))
    except TooManyAttempts:
        form.add_error("password", WAIT)
        return False
    if not user.check_password(form.cleaned_data["password"]):
        audit.record_refusal("auth.failed", target=user, reason="wrong password")
        form.add_error("password", _("The password is wrong."))
        return False
    attempt.succeeded()
    return True


# -- one's own sign-in --


@_guarded
def my_sign_in(request: HttpRequest) -> HttpResponse:
    user = _signed_in(request)
    shown = {
        "factor": SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).first(),
        "codes_left": second_factor.codes_left(user),
        "is_required": second_factor.is_required_of(user),
    }
    return _page(request, "security/my_sign_in.html", _("My sign-in"), **shown)


@_guarded
@require_POST
def renew_codes(request: HttpRequest) -> HttpResponse:
    user = _signed_in(request)
    if not second_factor.is_set_up(user):
        raise PermissionDenied
    return _codes_page(request, second_factor.renew_recovery_codes(user))


@_guarded
@require_POST
def turn_off(request: HttpRequest) -> HttpResponse:
    """Only where none is required; where one is, another app can be set up in its place."""
    user = _signed_in(request)
    if second_factor.is_required_of(user):
        raise PermissionDenied
    if second_factor.remove(user, reason="by its owner"):
        sessions.complete(request, user, "none")
        messages.success(request, _("The second factor is off. All other sessions have ended."))
    return HttpResponseRedirect(reverse("admin:my_sign_in"))


@_guarded
@require_POST
def sign_out_elsewhere(request: HttpRequest) -> HttpResponse:
    user = _signed_in(request)
    second_factor.sign_out_everywhere(user, reason="by its owner")
    sessions.keep(request, user)
    messages.success(request, _("All other sessions and refresh tokens have ended."))
    return HttpResponseRedirect(reverse("admin:my_sign_in"))


# -- parts --


def _signed_in(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def _codes_page(request: HttpRequest, codes: list[str]) -> HttpResponse:
    text = "\n".join(["ClawdBot", *codes, ""])
    shown = {"codes": codes, "download": f"data:text/plain;charset=utf-8,{quote(text)}"}
    return _page(request, "security/recovery_codes.html", _("Recovery codes"), **shown)


def _page(request: HttpRequest, template: str, title: str, **shown: Any) -> HttpResponse:
    context = {**site.each_context(request), "title": title, NEXT: _next(request), **shown}
    return TemplateResponse(request, template, context)


def _qr(text: str) -> dict[str, Any]:
    """The code as one path of unit squares: inline SVG without a style of its own."""
    code = qrcode.QRCode(border=4)
    code.add_data(text)
    rows = code.get_matrix()
    path = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark)
    return {"size": len(rows), "path": path}


def _next(request: HttpRequest) -> str:
    """Where to go on; only to this site, and never in a circle."""
    wanted = request.POST.get(NEXT) or request.GET.get(NEXT) or ""
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if is_ours and not wanted.startswith(reverse("admin:login")) else reverse("admin:index")


def _with_next(name: str, request: HttpRequest) -> str:
    return f"{reverse(name)}?{urlencode({NEXT: _next(request)})}"


def _actor(user: User) -> Actor:
    return Actor("user", str(user.pk), user.get_username())
