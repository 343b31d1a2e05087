"""The admin's page of tokens and costs: a line a day, bot and model, with the sums of what is shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _

from bots import costs
from bots.models import ModelUsage
from clawdbot_site.security.team_admin import OfTeams
from monitoring import audit
from monitoring.admin import ReadOnlyModelAdmin


@admin.register(ModelUsage)
class ModelUsageAdmin(OfTeams, ReadOnlyModelAdmin):
    list_display = ["day", "bot", "model", "answers", "fallbacks", "prompt_tokens", "completion_tokens", "money"]
    list_display_links = ("day",)
    list_filter = ["day", "bot", "model"]
    date_hierarchy = "day"
    list_per_page = 100
    list_before_template = "bots/usage_totals.html"
    fields = [*list_display, "prompt_price", "completion_price", "updated_at"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelUsage]:
        return costs.visible_usage(super().get_queryset(request), request.user)

    @admin.display(description=_("cost"), ordering="cost")
    def money(self, row: ModelUsage) -> str:
        return f"{row.cost:.4f} {row.currency}"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            response.context_data["totals"] = costs.totals(response.context_data["cl"].queryset)
        return response

    def get_urls(self) -> list[URLPattern]:
        export: Any = self.admin_site.admin_view(self.export)
        return [path("export/", export, name="bots_modelusage_export"), *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponse:
        """What the list shows with its filters, all pages of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse("admin:bots_modelusage_changelist"))
        audit.record("modelusage.exported")
        return costs.csv_response(rows)
