"""What is stored, as one YAML file that makes the same of another database. Secrets are left out, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml
from django.utils.translation import gettext as _

from monitoring import audit
from monitoring.configuration.applying import ACTOR
from monitoring.configuration.errors import ConfigurationError
from monitoring.configuration.kinds import Kind, all_kinds
from monitoring.configuration.rows import Rows
from monitoring.context import bind

WIDTH: Final = 120


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as people write them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def export() -> str:
    """Raises ConfigurationError where two things bear one name: by it a file could not tell them apart."""
    kinds = all_kinds()
    rows = Rows(kinds)
    with bind(actor=ACTOR):
        parts = [part for kind in kinds.values() if kind.fields for part in _of_kind(kind, rows)]
        audit.record("configuration.exported")
    head = _("Written by manage.py configure --export. Secrets are never exported.")
    return "\n".join([f"# {head}", *parts]) + "\n"


def _of_kind(kind: Kind, rows: Rows) -> Iterator[str]:
    found = [(key, row) for key, several in rows.of(kind).items() for row in several if kind.is_notable(row)]
    if twice := sorted({"/".join(key) for key, _row in found if len(rows.of(kind)[key]) > 1}):
        text = _("Several %(kind)s are called %(names)s. Rename or delete all but one in the admin first.")
        raise ConfigurationError([text % {"kind": kind.name, "names": ", ".join(twice)}])
    if found:
        yield f"\n{kind.name}:"
    for _key, row in found:
        yield from _entry(kind, row, rows)


def _entry(kind: Kind, row: Any, rows: Rows) -> Iterator[str]:
    left_out = {*kind.secrets, *kind.fixed(row)}
    values = rows.values(kind, row, [name for name in kind.names if name not in left_out])
    dumped = yaml.dump([values], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    yield "\n".join(f"  {line}" if line else "" for line in dumped.rstrip("\n").split("\n"))
    for name in kind.secrets:
        if rows.value(kind, row, name):
            yield f"    # {name}: {{env: {_variable(kind, row, name, rows)}}}"


def _variable(kind: Kind, row: Any, name: str, rows: Rows) -> str:
    """A name for the environment, as a proposal."""
    words = "_".join([kind.name.removesuffix("s"), *rows.key_of(kind, row), name])
    return "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in words).upper()
