"""The site as far as monitoring needs it; its tests run without the apps above."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from monitoring import api
from tests.monitoring.audited_site import GroupViewSet, audited_site

handler403 = "monitoring.views.permission_denied"
router = SimpleRouter()
api.register(router)
router.register("groups", GroupViewSet, basename="group")

urlpatterns = [
    path("", include("monitoring.urls")),
    path("api/v1/", include(router.urls)),
    path("admin/", admin.site.urls),
    path("audited/", audited_site.urls),
]
