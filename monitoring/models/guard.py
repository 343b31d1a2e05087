"""Refuses to change or delete rows of append-only tables, earlier and clearer than the database's triggers do."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from django.db import models

from monitoring import statements


class AppendOnlyError(Exception):
    """A row of the audit log, a seal or a checkpoint was to be changed or deleted. Trying again never helps."""


def refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise AppendOnlyError("Audit entries, seals and checkpoints are only ever added.")


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """The way in is ``create`` and ``bulk_create`` (rule U10)."""

    update = refuse
    _update = refuse
    bulk_update = refuse
    update_or_create = refuse
    delete = refuse
    _raw_delete = refuse

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("update_conflicts") or kwargs.get("ignore_conflicts"):
            refuse()
        return super().bulk_create(objs, *args, **kwargs)


class AppendOnlyModel(models.Model):
    """A row that is inserted once."""

    objects: ClassVar[Any] = models.Manager.from_queryset(AppendOnlyQuerySet)()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding or kwargs.get("force_update") or kwargs.get("update_fields"):
            refuse()
        statements.insert(self)

    delete = refuse
