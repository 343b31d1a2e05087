"""The admin site of ClawdBot: Unfold's, with a dashboard of our own for a start page."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite


class AdminSite(UnfoldAdminSite):
    index_template = "bots/dashboard.html"
    index_title = _("Dashboard")
