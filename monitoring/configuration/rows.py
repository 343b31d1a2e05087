"""What is stored, by the names that files use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import models
from django.utils.translation import gettext as _

from monitoring import audit
from monitoring.configuration.errors import Bad
from monitoring.configuration.kinds import Kind
from monitoring.configuration.reading import Key

UNREADABLE = "unreadable"


class Rows:
    """The rows of all kinds, each kind read once and followed from then on."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self._kinds = kinds
        self._known: dict[str, dict[Key, list[Any]]] = {}
        self._names: dict[str, dict[str, str]] = {}

    def find(self, kind: Kind, key: Key) -> Any | None:
        """Raises Bad where several have this name."""
        found = self.of(kind).get(key, [])
        if len(found) > 1:
            text = _("%(count)d of them are stored under this name. Rename or delete one in the admin first.")
            raise Bad(text % {"count": len(found)})
        return found[0] if found else None

    def named(self, kind_name: str, name: str) -> Any:
        """The thing that a field refers to. Raises Bad."""
        kind = self._kinds[kind_name]
        row = self.find(kind, (name,))
        if row is None:
            text = _("There is no %(name)s among the %(kind)s. Known are: %(known)s.")
            known = sorted(key[0] for key in self.of(kind))
            raise Bad(text % {"name": name, "kind": kind_name, "known": ", ".join(known[:20]) or "–"})
        return row

    def of(self, kind: Kind) -> dict[Key, list[Any]]:
        if kind.name not in self._known:
            self._known[kind.name] = {}
            for row in kind.stored():
                self.add(kind, row)
        return self._known[kind.name]

    def add(self, kind: Kind, row: Any) -> None:
        self.of(kind).setdefault(self.key_of(kind, row), []).append(row)
        self._names.setdefault(kind.name, {})[str(row.pk)] = self.key_of(kind, row)[0]

    def remove(self, kind: Kind, gone: Any) -> None:
        for rows in self.of(kind).values():
            rows[:] = [row for row in rows if row is not gone]

    def key_of(self, kind: Kind, row: Any) -> Key:
        return tuple(str(self.value(kind, row, name)) for name in kind.key)

    def values(self, kind: Kind, row: Any, names: Iterable[str]) -> dict[str, Any]:
        return {name: self.value(kind, row, name) for name in names}

    def value(self, kind: Kind, row: Any, name: str) -> Any:
        """As a file would say it; of a secret a keyed digest, '' where there is none."""
        if name in kind.secrets:
            return _digest(kind, row, name)
        held = _held(kind, row, name)
        if name not in kind.refers:
            return _plain(held)
        return self.names(kind.refers[name], held)

    def names(self, kind_name: str, held: Any) -> Any:
        """The names of what a relation holds: one key, or a list of rows."""
        self.of(self._kinds[kind_name])
        known = self._names.get(kind_name, {})
        if isinstance(held, list):
            return sorted(known[str(row.pk)] for row in held)
        return known.get(str(held)) if held else None


def _held(kind: Kind, row: models.Model, name: str) -> Any:
    if name in kind.read:
        return kind.read[name](row)
    column: Any = row._meta.get_field(name)
    return column.value_from_object(row)


def _digest(kind: Kind, row: Any, name: str) -> str:
    try:
        return audit.digest(kind.read[name](row) if name in kind.read else getattr(row, name))
    except Exception:  # noqa: BLE001  (what the vault raises is the business of an app above; it can be replaced)
        return UNREADABLE


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | bool | int | float | list) or value is None:
        return value
    return str(value)
