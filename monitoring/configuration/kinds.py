"""The kinds of things that a file can describe. A new model that admins set up gets one here, from its app's
``configured`` module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.forms.models import modelform_factory
from django.utils.module_loading import autodiscover_modules

from monitoring.admin.base import AuditedModelAdmin


@dataclass(frozen=True, slots=True)
class Kind:
    """``key`` names a thing for good, ``fields`` are the rest; both are fields of ``form``, the admin's own by default.

    ``refers``: of which kind the thing is that a field names, by its (single) key. ``secrets`` come by reference and
    are never shown. ``read``: how a field that is no column is read from a row. ``spell``: a key's normal form.
    ``answers``: what the form is told besides. ``fixed``: fields that cannot be set for this row. ``is_notable``:
    whether an export names the row. Without ``fields`` the things can only be referred to.
    """

    name: str
    model: type[models.Model]
    key: tuple[str, ...]
    fields: tuple[str, ...] = ()
    refers: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    form: type[forms.ModelForm] | None = None
    rows: Callable[[], Iterable[Any]] | None = None
    new: Callable[[], Any] | None = None
    read: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    spell: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    fixed: Callable[[Any], Iterable[str]] = lambda row: ()
    is_notable: Callable[[Any], bool] = lambda row: True
    can_be_made: bool = True
    can_be_pruned: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.key, *self.fields)

    @property
    def admin(self) -> admin.ModelAdmin:
        """The admin's page of it, or a plain audited one for what is only part of another page."""
        if admin.site.is_registered(self.model):
            return admin.site.get_model_admin(self.model)
        return AuditedModelAdmin(self.model, admin.site)

    def stored(self) -> Iterable[Any]:
        return self.rows() if self.rows else self.model._default_manager.all()

    def form_class(self) -> type[forms.ModelForm]:
        columns = [name for name in self.names if name not in self.read and self.model._meta.get_field(name).editable]
        return modelform_factory(self.model, form=self.form or self.admin.form, fields=columns)


_kinds: dict[str, Kind] = {}


def register(*kinds: Kind) -> None:
    _kinds.update({kind.name: kind for kind in kinds})


def all_kinds() -> dict[str, Kind]:
    """By name, and in the order in which things can be made: what is referred to comes first."""
    autodiscover_modules("configured")
    graph = {kind.name: sorted(set(kind.refers.values())) for kind in _kinds.values()}
    return {name: _kinds[name] for name in TopologicalSorter(graph).static_order()}
