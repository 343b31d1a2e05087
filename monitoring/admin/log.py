"""The admin of the audit log: a timeline to filter, each entry with its differences and its seal, exports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from monitoring import audit, exports
from monitoring.admin import differences, proof
from monitoring.admin.base import ReadOnlyModelAdmin
from monitoring.admin.filters import ActionFilter, ActorFilter, AddressFilter, SinceFilter, TargetFilter, UntilFilter
from monitoring.models import AuditLog, AuditSeal


@admin.register(AuditLog)
class AuditLogAdmin(ReadOnlyModelAdmin):
    """Reading it is an event as well: once a minute for each reader, with a count."""

    list_display = ["at", "action", "outcome", "actor", "target", "address", "reason"]
    list_display_links = ("at", "action")
    list_filter = [
        ActionFilter,
        ActorFilter,
        TargetFilter,
        AddressFilter,
        SinceFilter,
        UntilFilter,
        "outcome",
        "actor_kind",
    ]
    list_filter_submit = True
    list_fullwidth = True
    search_fields = ["action", "actor_label", "target_label", "target_id", "address", "request_id", "reason"]
    search_help_text = _("Action, person or client, target, address, request id or reason")
    list_per_page = 50
    show_full_result_count = False
    actions_list = ["proof", "export_csv", "export_jsonl"]
    fieldsets = [
        (None, {"fields": ["at", "action", "outcome", "reason", "count"]}),
        (_("Who and where"), {"fields": ["actor", "actor_kind", "actor_id", "address", "request_id"]}),
        (_("What"), {"fields": ["target", "target_type", "target_id", "history", "changes_table"]}),
        (_("Proof"), {"fields": ["seal"]}),
    ]

    @admin.display(description=_("time"), ordering="created_at")
    def at(self, entry: AuditLog) -> str:
        """To the second, which an order of events needs."""
        return f"{timezone.localtime(entry.created_at):%Y-%m-%d %H:%M:%S}"

    @admin.display(description=_("actor"), ordering="actor_label")
    def actor(self, entry: AuditLog) -> str:
        return entry.actor_label or str(entry.get_actor_kind_display())

    @admin.display(description=_("target"), ordering="target_label")
    def target(self, entry: AuditLog) -> str:
        return entry.target_label or entry.target_id

    @admin.display(description=_("changes"))
    def changes_table(self, entry: AuditLog) -> SafeString | str:
        return differences.table(entry.changes)

    @admin.display(description=_("history"))
    def history(self, entry: AuditLog) -> SafeString | str:
        if not entry.target_type or not entry.target_id:
            return "–"
        query = urlencode({"target": f"{entry.target_type}:{entry.target_id}"})
        return format_html('<a class="cb-link" href="../../?{}">{}</a>', query, _("All entries of this object"))

    @admin.display(description=_("seal"))
    def seal(self, entry: AuditLog) -> SafeString | str:
        found = AuditSeal.objects.filter(entry_id=entry.pk).first()
        if found is None:
            return str(_("waits for its seal"))
        place = f"{found.sequence} · {found.get_state_display()}"
        return format_html('{} <span class="cb-mono">{}</span>', place, found.hash)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for _title, options in self.fieldsets for name in options["fields"]]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        audit.record_read("auditlog.listed")
        if isinstance(response, TemplateResponse) and response.context_data:
            _carry_filters(request, response.context_data.get("actions_list") or [])
        return cast(HttpResponse, response)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        response = super().change_view(request, object_id, form_url, extra_context)
        if response.status_code == 200:
            audit.record_read("auditlog.read", target_label=object_id)
        return cast(HttpResponse, response)

    @action(description=_("Export CSV"), url_path="export-csv", permissions=["view"], icon="download")
    def export_csv(self, request: HttpRequest) -> Any:
        return self._export(request, "csv")

    @action(description=_("Export JSON lines"), url_path="export-jsonl", permissions=["view"], icon="download")
    def export_jsonl(self, request: HttpRequest) -> Any:
        return self._export(request, "jsonl")

    @action(description=_("Proof and verification"), url_path="proof", permissions=["view"], icon="verified_user")
    def proof(self, request: HttpRequest) -> HttpResponse:
        return proof.page(request, self.admin_site)

    def _export(self, request: HttpRequest, form: str) -> Any:
        """Export what the list shows with its filters and search, all pages of it."""
        try:
            return exports.response(request, self.get_changelist_instance(request).queryset, form)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:monitoring_auditlog_changelist"))


def _carry_filters(request: HttpRequest, buttons: Iterable[dict[str, Any]]) -> None:
    """The export takes what the list shows."""
    query = request.GET.copy()
    query.pop("p", None)
    for button in buttons:
        button["path"] = f"{button['path']}?{query.urlencode()}" if query else button["path"]
