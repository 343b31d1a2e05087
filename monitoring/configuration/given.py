"""One value of a file as a form takes it: of the right type, names looked up, secrets fetched from where they are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django import forms
from django.db import models
from django.utils.translation import gettext as _

from monitoring.configuration.errors import Bad
from monitoring.configuration.kinds import Kind
from monitoring.configuration.reading import Entry
from monitoring.configuration.rows import Rows

MOST_BYTES: Final = 8 * 1024 * 1024
YEARS: Final = range(1970, 9999)  # those near the ends of the calendar overflow in another time zone


def form_value(entry: Entry, name: str, field: forms.Field, rows: Rows, *, allow_literal: bool) -> Any:
    """What the form gets for this field. Raises Bad."""
    kind, value = entry.kind, entry.values[name]
    if name in kind.secrets:
        return _secret(value, entry.folder, allow_literal=allow_literal)
    if name in kind.refers:
        return _reference(kind, name, value, field, rows)
    if _holds_list(kind, name):
        return field.prepare_value(_texts(value))
    return field.prepare_value(_plain(value, field, entry.folder))


# -- secrets and texts from elsewhere --


def _secret(value: Any, folder: Path, *, allow_literal: bool) -> str:
    if isinstance(value, str) and not allow_literal:
        text = _("A secret does not stand in the file: write {env: NAME} or {file: PATH}. To allow it: %(option)s.")
        raise Bad(text % {"option": "--allow-literal-secrets"})
    found = _fetched(value, folder).strip() if isinstance(value, dict | str) else ""
    if not found:
        raise Bad(_("Write {env: NAME} or {file: PATH}, and let there be something in it."))
    return found


def _fetched(value: dict[Any, Any] | str, folder: Path) -> str:
    if isinstance(value, str):
        return value
    where, name = next(iter(value.items())) if len(value) == 1 else ("", "")
    if where == "env" and isinstance(name, str):
        if name not in os.environ:
            raise Bad(_("The environment variable %(name)s is not set.") % {"name": name})
        return os.environ[name]
    if where == "file" and isinstance(name, str):
        return _content(folder / name)
    raise Bad(_("Only {env: NAME} or {file: PATH} can stand here."))


def _content(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Bad(_("The file %(path)s has more than 8 MiB.") % {"path": path})
        return path.read_text("utf-8")
    except OSError as error:
        text = _("The file %(path)s cannot be read: %(reason)s.")
        raise Bad(text % {"path": path, "reason": error.strerror}) from None
    except UnicodeDecodeError:
        raise Bad(_("The file %(path)s is no text in UTF-8.") % {"path": path}) from None


# -- references --


def _reference(kind: Kind, name: str, value: Any, field: forms.Field, rows: Rows) -> Any:
    target = kind.refers[name]
    if isinstance(field, forms.ModelMultipleChoiceField):
        return [rows.named(target, one).pk for one in _texts(value)]
    if value is None and not field.required:
        return ""
    if not isinstance(value, str):
        raise Bad(_("Write the name of one of the %(kind)s.") % {"kind": target})
    return str(rows.named(target, value).pk)


# -- plain values --


def _holds_list(kind: Kind, name: str) -> bool:
    return name not in kind.read and isinstance(kind.model._meta.get_field(name), models.JSONField)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Bad(_("A list of texts is expected, like [a, b]; quote what looks like a number."))
    return value


def _plain(value: Any, field: forms.Field, folder: Path) -> Any:
    types, expected = _expected(field)
    if types == (str,) and isinstance(value, dict) and not isinstance(field, forms.ChoiceField):
        value = _fetched(value, folder)
    is_cleared = value is None and not field.required and types not in ((str,), (bool,))
    if not is_cleared and (not isinstance(value, types) or (isinstance(value, bool) and types != (bool,))):
        raise Bad(expected)
    if isinstance(value, datetime) and value.year not in YEARS:
        raise Bad(expected)
    if isinstance(field, forms.ChoiceField):
        _check_choice(field, value)
    return value


def _expected(field: forms.Field) -> tuple[tuple[type, ...], str]:
    if isinstance(field, forms.BooleanField):
        return (bool,), _("true or false is expected.")
    if isinstance(field, forms.FloatField | forms.DecimalField):
        return (int, float), _("A number is expected.")
    if isinstance(field, forms.IntegerField):
        return (int,), _("A whole number is expected.")
    if isinstance(field, forms.DateTimeField):
        return (datetime,), _("A moment is expected, like 2027-01-31T18:00:00+08:00.")
    return (str,), _("A text is expected: quote it, if it looks like a number or a date.")


def _check_choice(field: forms.ChoiceField, value: Any) -> None:
    known = [str(one) for one, _label in _pairs(field.choices)]
    if value not in known:
        text = _("%(value)s is none of: %(known)s.")
        raise Bad(text % {"value": value or "“”", "known": ", ".join(filter(None, known))})


def _pairs(choices: Any) -> Iterable[tuple[Any, Any]]:
    return ((one, label) for one, label in choices)
