"""Addresses of the token endpoints, below ``/api/v1/``."""

from __future__ import annotations

from django.urls import path

from clawdbot_site.security import views

token_urlpatterns = [
    path("auth/token/", views.TokenView.as_view(), name="token"),
    path("auth/token/refresh/", views.RefreshView.as_view(), name="token-refresh"),
    path("auth/token/revoke/", views.RevokeView.as_view(), name="token-revoke"),
]
