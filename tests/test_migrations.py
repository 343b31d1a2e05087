"""Migrations expand: code of before runs on the tables of after. What takes something away comes a version later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import migrations, models
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED

# The last migration of the first tables: no older code ran on them.
FIRST = {"bots": 6, "inference": 1, "integrations": 3, "monitoring": 2, "security": 1}
TAKES_AWAY = (migrations.RemoveField, migrations.RenameField, migrations.DeleteModel, migrations.RenameModel)
# "app.migration: operation" -> why the code of the version before does not mind.
ALLOWED: dict[str, str] = {}


def later_migrations() -> list[Migration]:
    """Those of ours that came after the first tables."""
    found = MigrationLoader(None).disk_migrations
    return [found[app, name] for app, name in sorted(found) if int(name.partition("_")[0]) > FIRST.get(app, 9999)]


def faults(migration: Migration, before: ProjectState) -> Iterator[str]:
    created = {
        operation.name_lower for operation in migration.operations if isinstance(operation, migrations.CreateModel)
    }
    for operation in migration.operations:
        if isinstance(operation, TAKES_AWAY) or _demands(operation, created) or _narrows(operation, migration, before):
            yield f"{migration.app_label}.{migration.name}: {operation.describe()}"


def _demands(operation: Operation, created: set[str]) -> bool:
    """Whether it adds a column that somebody who does not know it cannot leave out."""
    if not isinstance(operation, migrations.AddField) or operation.model_name_lower in created:
        return False
    field = operation.field
    has_value = field.null or field.db_default is not NOT_PROVIDED
    return not (has_value or field.many_to_many or isinstance(field, models.GeneratedField))


def _narrows(operation: Operation, migration: Migration, before: ProjectState) -> bool:
    """Whether a column takes less than before: no NULL any more, or shorter texts."""
    if not isinstance(operation, migrations.AlterField):
        return False
    old = before.models[migration.app_label, operation.model_name_lower].fields[operation.name]
    new = operation.field
    no_null = old.null and not new.null and new.db_default is NOT_PROVIDED
    return no_null or (new.max_length is not None and new.max_length < (old.max_length or float("inf")))


@pytest.mark.parametrize("migration", later_migrations(), ids=str)
def test_code_of_before_runs_on_the_tables_of_after(migration: Migration) -> None:
    before = MigrationLoader(None).project_state((migration.app_label, migration.name), at_end=False)

    assert [fault for fault in faults(migration, before) if fault not in ALLOWED] == []


class Bad(Migration):
    operations = [
        migrations.RemoveField("bot", "name"),
        migrations.AddField("bot", "colour", models.CharField(max_length=9, default="")),
        migrations.AlterField("message", "reply_to", models.ForeignKey("bots.Message", models.CASCADE)),
        migrations.AlterField("bot", "name", models.CharField(max_length=10)),
        migrations.AddField("bot", "size", models.IntegerField(default=0, db_default=0)),
        migrations.AddField("bot", "shape", models.IntegerField(null=True)),
    ]


def test_each_kind_of_fault_is_seen() -> None:
    found = faults(Bad("0099_bad", "bots"), MigrationLoader(None).project_state())

    assert [fault.partition(": ")[2] for fault in found] == [operation.describe() for operation in Bad.operations[:4]]
