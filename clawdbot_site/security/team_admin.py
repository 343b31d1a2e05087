"""The admin's side of teams: lists, pages, choices and filters hold only what whoever asks may know of (rule A8)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from clawdbot_site.security.teams import own_team, visible


class OfTeams(ModelAdmin):
    """Before AuditedModelAdmin or ReadOnlyModelAdmin in a class's bases."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return visible(super().get_queryset(request), request.user)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A form takes no key of what is not shown."""
        model = db_field.remote_field.model
        if getattr(model, "team_paths", ()):
            kwargs.setdefault("queryset", visible(model._default_manager.all(), request.user))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        return {"team": own_team(request.user), **given}

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """Django leads to the start page, which says nothing to a program."""
        raise Http404


class VisibleFilter(admin.RelatedFieldListFilter):
    """Names only what whoever asks may know of."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        shown = visible(field.remote_field.model._default_manager.all(), request.user)
        ordering = self.field_admin_ordering(field, request, model_admin)
        return field.get_choices(
            include_blank=False, ordering=ordering, limit_choices_to={"pk__in": shown.values("pk")}
        )
