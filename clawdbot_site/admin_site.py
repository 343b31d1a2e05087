"""The admin site of ClawdBot: Unfold's, with a dashboard for a start page, and sign-ins that take a second factor."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite

from clawdbot_site.security import sessions
from clawdbot_site.security import sign_in_pages as pages
from clawdbot_site.security.models import User
from monitoring import audit

# Addresses behind which somebody could give rights away: who sits there is asked again after a quarter of an hour.
SENSITIVE: Final = frozenset(
    f"{model}_{page}"
    for model in ("security_user", "security_team", "security_apiclient", "auth_group")
    for page in ("add", "change", "delete")
) | {
    "auth_user_password_change",
    "second_factor_renew_codes",
    "second_factor_turn_off",
    "monitoring_auditlog_export_csv",
    "monitoring_auditlog_export_jsonl",
}
SENSITIVE_WHEN_SENT: Final = frozenset(  # actions on a selection
    f"{model}_changelist" for model in ("security_user", "security_team", "security_apiclient", "auth_group")
)


class AdminSite(UnfoldAdminSite):
    index_template = "bots/dashboard.html"
    index_title = _("Dashboard")

    def has_permission(self, request: HttpRequest) -> bool:
        """Staff, signed in with all that their sign-in needs (rule A6): the middleware says so, and is asked again."""
        user = request.user
        if not super().has_permission(request) or not isinstance(user, User):
            return False
        session = getattr(request, "session", None)  # tests of single pages bring none
        return session is None or sessions.is_complete(sessions.of(session, user), user)

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Who gave the password goes on to the second factor; the form itself is for everybody else."""
        if request.method == "GET" and getattr(request, "signing_in", None):
            onward = urlencode({"next": request.GET.get("next") or reverse("admin:index")})
            return HttpResponseRedirect(f"{reverse('admin:second_factor')}?{onward}")
        response: HttpResponse = super().login(request, extra_context)
        return response

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Callable[..., Any]:
        inner = super().admin_view(view, cacheable)

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if is_sensitive(request) and self.has_permission(request) and not sessions.is_recent(request):
                return pages.ask_again(request)
            return inner(request, *args, **kwargs)

        return update_wrapper(guarded, inner)

    def extra_urls(self) -> list[URLPattern]:
        return [
            path("second-factor/", pages.second_step, name="second_factor"),
            path("second-factor/set-up/", pages.set_up, name="second_factor_set_up"),
            path("second-factor/codes/", self.admin_view(pages.renew_codes), name="second_factor_renew_codes"),
            path("second-factor/off/", self.admin_view(pages.turn_off), name="second_factor_turn_off"),
            path("my-sign-in/", self.admin_view(pages.my_sign_in), name="my_sign_in"),
            path("my-sign-in/end-others/", self.admin_view(pages.sign_out_elsewhere), name="sign_out_elsewhere"),
            path("prove-again/", self.admin_view(pages.prove_again), name="prove_again"),
        ]

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        with audit.following(get_user_model(), request.user.pk):
            response: HttpResponse = super().password_change(request, extra_context)
        return response


def is_sensitive(request: HttpRequest) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else ""
    return name in SENSITIVE or (request.method == "POST" and name in SENSITIVE_WHEN_SENT)
