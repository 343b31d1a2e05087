"""The scheduler's entries. They come from the settings, so here they are read, and at most switched off for a while."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from monitoring.admin import AuditedModelAdmin

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


@admin.register(PeriodicTask)
class ScheduleAdmin(AuditedModelAdmin):
    list_display = ["name", "task", "when", "enabled", "last_run_at", "total_run_count"]
    list_filter = ["enabled", "last_run_at"]
    search_fields = ["name", "task"]
    list_select_related = ["interval", "crontab", "solar", "clocked"]
    fields = ["name", "task", "when", "queue", "last_run_at", "total_run_count", "enabled"]
    readonly_fields = ["name", "task", "when", "queue", "last_run_at", "total_run_count"]

    @admin.display(description=_("when"))
    def when(self, entry: PeriodicTask) -> str:
        return str(entry.scheduler or "–")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        words = {
            "enabled": _("Without its schedules ClawdBot does not recover what was interrupted. Switch back on soon.")
        }
        return super().get_form(request, obj, change, **{**kwargs, "help_texts": words})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
