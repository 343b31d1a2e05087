"""Every address that Django itself answers. Platform callbacks and WebSockets are routed in asgi.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from bots.api import hooks, openai, resources
from clawdbot_site import rest
from clawdbot_site.security import api as security_api
from clawdbot_site.security.urls import token_urlpatterns
from clawdbot_site.security.views import jwks
from monitoring import api as monitoring_api

handler403 = "monitoring.views.permission_denied"
router = SimpleRouter()
for part in (resources, security_api, monitoring_api):
    part.register(router)

api_v1 = [
    *token_urlpatterns,
    path("hooks/<str:key>/", hooks.InboundHook.as_view(), name="inbound-hook"),
    *resources.urlpatterns,
    *router.urls,
    re_path(r"", rest.unknown_address),
]
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("", include("monitoring.urls")),
    path(".well-known/jwks.json", jwks, name="jwks"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include(api_v1)),
    path("v1/", include(openai.urlpatterns)),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", include("bots.admin.urls")),
    path("admin/", admin.site.urls),
]
