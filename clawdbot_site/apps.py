"""The admin of ClawdBot: which site it is, and what of other packages' admins stays out."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    default_site = "clawdbot_site.admin_site.AdminSite"

    def ready(self) -> None:
        super().ready()
        from django.contrib.admin import site
        from rest_framework_api_key.models import APIKey

        site.unregister(APIKey)  # our API clients, with scopes and networks, take its place
