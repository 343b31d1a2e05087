"""The admin of alerts: what needs a person."""

from __future__ import annotations

from django.contrib import admin

from monitoring.admin.base import ReadOnlyModelAdmin
from monitoring.models import Alert


@admin.register(Alert)
class AlertAdmin(ReadOnlyModelAdmin):
    list_display = ["opened_at", "severity", "rule", "subject", "summary", "closed_at"]
    list_display_links = ("opened_at", "rule")
    list_filter = ["severity", ("closed_at", admin.EmptyFieldListFilter), "rule"]
    search_fields = ["rule", "subject", "summary"]
    list_per_page = 50
    fields = ["rule", "subject", "severity", "summary", "opened_at", "closed_at", "details"]
