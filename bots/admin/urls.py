"""Pages of the admin that belong to no model."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from bots.admin import playground

urlpatterns = [
    path("playground/", admin.site.admin_view(playground.choose), name="playground"),
    path("playground/<slug:slug>/", admin.site.admin_view(playground.talk), name="playground-chat"),
]
