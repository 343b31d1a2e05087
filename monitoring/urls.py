"""Routes at the root of the site. REST is hung in by ``monitoring.api.register``."""

from __future__ import annotations

from django.urls import path

from monitoring import views

urlpatterns = [
    path("metrics", views.metrics_page, name="metrics"),
    path("livez", views.livez, name="livez"),
    path("readyz", views.readyz, name="readyz"),
]
