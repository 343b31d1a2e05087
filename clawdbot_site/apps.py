"""The admin site of ClawdBot: Unfold's look, our dashboard."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    default_site = "unfold.sites.UnfoldAdminSite"
