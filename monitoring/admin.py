"""The admin's base classes for all apps, and the pages of the audit log and of alerts.

AuditedModelAdmin writes an entry for each object that was made, changed or deleted, with before and after, in the
transaction of the change: forms, inlines, list editing, deleting and actions on a selection. Actions that Unfold serves
at addresses of their own (``actions_row``, ``actions_detail``, ``actions_list``) call monitoring.audit themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action

from monitoring import audit, exports
from monitoring.models import Alert, AuditLog

Snapshot = dict[str, Any]
CHANGE_ROW: Final = (
    '<tr class="border-t align-top"><th class="p-2 text-left">{}</th>'
    '<td class="p-2 break-all whitespace-pre-wrap">{}</td><td class="p-2 break-all whitespace-pre-wrap">{}</td></tr>'
)
MOST_FOLLOWED: Final = 500  # objects of one action whose changes are written one by one


class AuditedModelAdmin(ModelAdmin):
    """Unfold's admin with an audit entry for every change.

    An action on a selection runs in one transaction and its effect on each object is written. One that calls other
    machines sets ``runs_outside_transaction = True`` on its function: its start is written, and it records the rest.
    """

    def save_model(self, request: HttpRequest, obj: models.Model, form: Any, change: bool) -> None:
        # The form has already written onto obj: what was there before is only in the database.
        form.audit_before = _stored(obj) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        _record_saved(form.instance, getattr(form, "audit_before", None))

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        before = _stored_rows(formset)
        super().save_formset(request, form, formset, change)
        _record_formset(formset, before)

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        with transaction.atomic():
            audit.record_deleted(obj)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                audit.record_deleted(obj)
            super().delete_queryset(request, queryset)

    def get_actions(self, request: HttpRequest) -> dict[str, tuple[Any, str, str]]:
        actions = super().get_actions(request)
        return {name: (_audited(name, run), name, text) for name, (run, _name, text) in actions.items()}


class ReadOnlyModelAdmin(ModelAdmin):
    """For logs: who has the view permission reads, nobody adds, changes or deletes."""

    actions = None
    list_display_links: tuple[str, ...] | None = None

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AuditLog)
class AuditLogAdmin(ReadOnlyModelAdmin):
    """Reading it is an event as well: once a minute for each reader, with a count."""

    list_display = ["created_at", "action", "outcome", "actor", "target", "address", "reason"]
    list_display_links = ("created_at", "action")
    list_filter = ["outcome", "actor_kind", ("created_at", admin.DateFieldListFilter), "action"]
    search_fields = ["action", "actor_label", "target_label", "target_id", "address", "request_id", "reason"]
    search_help_text = _("Action, person or client, target, address, request id or reason")
    list_per_page = 50
    show_full_result_count = False
    actions_list = ["export_csv", "export_jsonl"]
    fieldsets = [
        (None, {"fields": ["created_at", "action", "outcome", "reason", "count"]}),
        (_("Who and where"), {"fields": ["actor", "actor_kind", "actor_id", "address", "request_id"]}),
        (_("What"), {"fields": ["target", "target_type", "target_id", "changes_table"]}),
    ]

    @admin.display(description=_("actor"), ordering="actor_label")
    def actor(self, entry: AuditLog) -> str:
        return entry.actor_label or str(entry.get_actor_kind_display())

    @admin.display(description=_("target"), ordering="target_label")
    def target(self, entry: AuditLog) -> str:
        return entry.target_label or entry.target_id

    @admin.display(description=_("changes"))
    def changes_table(self, entry: AuditLog) -> SafeString | str:
        rows = [(name, *_sides(change)) for name, change in entry.changes.items()]
        if not rows:
            return ""
        body = format_html_join("", CHANGE_ROW, rows)
        head = format_html_join("", '<th class="p-2">{}</th>', [(_("field"),), (_("before"),), (_("after"),)])
        return format_html('<table class="w-full"><tr class="text-left">{}</tr>{}</table>', head, body)

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

    def _export(self, request: HttpRequest, form: str) -> Any:
        """Export what the list shows with its filters and search, all pages of it."""
        try:
            return exports.response(request, self.get_changelist_instance(request).queryset, form)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:monitoring_auditlog_changelist"))


@admin.register(Alert)
class AlertAdmin(ReadOnlyModelAdmin):
    list_display = ["opened_at", "severity", "rule", "subject", "summary", "closed_at"]
    list_display_links = ("opened_at", "rule")
    list_filter = ["severity", ("closed_at", admin.EmptyFieldListFilter), "rule"]
    search_fields = ["rule", "subject", "summary"]
    list_per_page = 50
    fields = ["rule", "subject", "severity", "summary", "opened_at", "closed_at", "details"]


def _stored(obj: models.Model) -> Snapshot:
    return audit.snapshot(type(obj)._base_manager.get(pk=obj.pk), many_to_many=True)


def _record_saved(obj: models.Model, before: Snapshot | None) -> None:
    if before is None:
        audit.record_created(obj)
    else:
        audit.record_changed(obj, before)


def _stored_rows(formset: Any) -> dict[Any, Snapshot]:
    """Snapshots of an inline's rows that the form changes or deletes, with the entries of the deleted ones written."""
    touched = [form.instance for form in formset.initial_forms if form.has_changed() and form.instance.pk]
    deleted = {form.instance.pk for form in getattr(formset, "deleted_forms", [])}
    for row in touched:
        if row.pk in deleted:
            audit.record_deleted(type(row)._base_manager.get(pk=row.pk))
    return {row.pk: _stored(row) for row in touched if row.pk not in deleted}


def _record_formset(formset: Any, before: dict[Any, Snapshot]) -> None:
    for row in getattr(formset, "new_objects", []):
        audit.record_created(row)
    for row, _fields in getattr(formset, "changed_objects", []):
        audit.record_changed(row, before.get(row.pk, {}))


def _audited(name: str, run: Any) -> Any:
    """Wrap an action on a selection so that it and its effect on each object are written."""
    if name == "delete_selected":  # ends in delete_queryset
        return run

    def audited_action(model_admin: Any, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        if getattr(run, "runs_outside_transaction", False):
            _record_action(name, queryset)
            return run(model_admin, request, queryset)
        with transaction.atomic():
            keys = _record_action(name, queryset)
            before = _snapshots(queryset.model, keys)
            response = run(model_admin, request, queryset)
            _record_effects(queryset.model, before)
            return response

    audited_action.__name__ = name
    return audited_action


def _record_action(name: str, queryset: models.QuerySet[Any]) -> list[Any]:
    """Write that an action was started on a selection, and return the keys of the selected objects."""
    keys = list(queryset.values_list("pk", flat=True))
    changes = {"action": name, "objects": [str(key) for key in keys[:MOST_FOLLOWED]], "count": len(keys)}
    audit.record(f"{queryset.model._meta.model_name}.action", target_label=name, changes=changes)
    return keys


def _snapshots(model: type[models.Model], keys: Iterable[Any]) -> dict[Any, Snapshot]:
    rows = model._base_manager.filter(pk__in=list(keys)[:MOST_FOLLOWED])
    return {row.pk: audit.snapshot(row, many_to_many=True) for row in rows}


def _record_effects(model: type[models.Model], before: dict[Any, Snapshot]) -> None:
    for row in model._base_manager.filter(pk__in=list(before)):
        audit.record_changed(row, before[row.pk])


def _sides(change: Any) -> tuple[str, str]:
    """Before and after of one change as text; a plain value stands at the right."""
    if isinstance(change, dict) and change.keys() <= {"before", "after"}:
        return _shown(change.get("before")), _shown(change.get("after"))
    return "", _shown(change)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _carry_filters(request: HttpRequest, buttons: Iterable[dict[str, Any]]) -> None:
    """The export takes what the list shows."""
    query = request.GET.copy()
    query.pop("p", None)
    for button in buttons:
        button["path"] = f"{button['path']}?{query.urlencode()}" if query else button["path"]
