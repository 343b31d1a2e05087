"""The admin's base classes for all apps.

AuditedModelAdmin writes an entry for each object that was made, changed or deleted, with before and after, in the
transaction of the change: forms, inlines, list editing, deleting and actions on a selection. Actions that Unfold serves
at addresses of their own (``actions_row``, ``actions_detail``, ``actions_list``) call monitoring.audit themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import ModelAdmin

from monitoring import audit

Snapshot = dict[str, Any]
MOST_FOLLOWED: Final = 500  # objects of one action whose changes are written one by one


class WithHistory(ModelAdmin):
    """An object's history is what the audit log tells of it."""

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not request.user.has_perm("monitoring.view_auditlog"):
            raise PermissionDenied
        wanted = f"{self.model._meta.concrete_model._meta.label_lower}:{unquote(object_id)}"
        page = reverse(f"{self.admin_site.name}:monitoring_auditlog_changelist")
        return HttpResponseRedirect(f"{page}?{urlencode({'target': wanted})}")


class AuditedModelAdmin(WithHistory):
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


class ReadOnlyModelAdmin(WithHistory):
    """For logs: who has the view permission reads, nobody adds, changes or deletes."""

    actions: tuple[str, ...] | None = None
    list_display_links: tuple[str, ...] | None = None

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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
