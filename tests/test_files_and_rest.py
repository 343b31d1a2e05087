"""What REST can write can stand in a file of ``manage.py configure``, and the other way round, under the same names."""

from __future__ import annotations

from django.db.models import Model
from rest_framework.serializers import ModelSerializer

from clawdbot_site.urls import router
from monitoring.configuration.kinds import all_kinds

# Of a kind that both know: (REST alone, files alone), and why.
DIFFERENT = {
    # Files are of rules for all endpoints, and nobody who writes them is shut out by one.
    "ip_rules": ({"dry_run", "endpoint", "confirm_lockout"}, {"is_dry_run"}),
}


def written_by_rest() -> dict[type[Model], set[str]]:
    serializers = [view.serializer_class() for _prefix, view, _name in router.registry if view.serializer_class]
    return {
        one.Meta.model: {name for name, field in one.fields.items() if not field.read_only}
        for one in serializers
        if isinstance(one, ModelSerializer)
    }


def test_rest_and_files_write_the_same_fields() -> None:
    rest = written_by_rest()
    kinds = [kind for kind in all_kinds().values() if kind.fields and rest.get(kind.model)]
    found = {kind.name: (rest[kind.model] - {*kind.names}, {*kind.names} - rest[kind.model]) for kind in kinds}

    assert len(found) == 8
    assert {name: fields for name, fields in found.items() if any(fields)} == DIFFERENT
