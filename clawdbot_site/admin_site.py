"""The admin site of ClawdBot: Unfold's, with a dashboard of our own for a start page."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite

from monitoring import audit


class AdminSite(UnfoldAdminSite):
    index_template = "bots/dashboard.html"
    index_title = _("Dashboard")

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        with audit.following(get_user_model(), request.user.pk):
            response: HttpResponse = super().password_change(request, extra_context)
        return response
