"""YAML to entries, each value with its line. Knows the kinds' names and fields, and nothing of what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml
from django.utils.translation import gettext as _

from monitoring.configuration.errors import Bad, ConfigurationError, Place
from monitoring.configuration.kinds import Kind

STDIN: Final = "-"
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text. ``folder`` is where the paths in it begin."""

    name: str
    text: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a file describes. ``lines`` are those of its values."""

    kind: Kind
    key: Key
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    place: Place
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.kind.name}/{'/'.join(self.key)}"

    def problem(self, message: str, name: str = "") -> str:
        place = Place(self.place.file, self.lines.get(name, self.place.line))
        return ": ".join(filter(None, [str(place), self.label, name, message]))


def read(sources: Iterable[Source], kinds: Mapping[str, Kind]) -> tuple[list[Entry], list[Kind]]:
    """All entries, in the order in which they can be carried out, and the kinds that the files name.

    Raises ConfigurationError.
    """
    reading = _Reading({name: kind for name, kind in kinds.items() if kind.fields})
    for source in sources:
        reading.take(source)
    if reading.problems:
        raise ConfigurationError(reading.problems)
    order = list(kinds)
    entries = sorted(reading.entries.values(), key=lambda entry: order.index(entry.kind.name))
    return entries, [kinds[name] for name in order if name in reading.named]


class _Loader(yaml.SafeLoader):
    """Only what the database can hold: an escape can name half a character, or none at all (NUL)."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if b"\0" in str(value).encode():
            raise ValueError("NUL")
        return value


class _Reading:
    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self.entries: dict[tuple[str, Key], Entry] = {}
        self.named: set[str] = set()
        self.problems: list[str] = []

    def take(self, source: Source) -> None:
        try:
            loader = _Loader(source.text)
            root = loader.get_single_node()
            for name, node in self._pairs(loader, source, root, _("kinds, like “bots:”")):
                self._take_kind(loader, source, name, node)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            self._note(source, line, _("This is no YAML: %(problem)s.") % {"problem": error.problem})
        except yaml.YAMLError:
            self._note(source, 1, _("This is no YAML: it holds characters that no text has."))
        except RecursionError:
            self._note(source, 1, _("This is nested too deeply."))

    def _take_kind(self, loader: yaml.SafeLoader, source: Source, name: yaml.Node, node: yaml.Node) -> None:
        kind = self._kinds.get(str(name.value))
        if kind is None:
            text = _("There is no kind %(name)s. Known are: %(known)s.")
            self._note(source, _line(name), text % {"name": name.value, "known": _choice(name, self._kinds)})
            return
        self.named.add(kind.name)
        if not isinstance(node, yaml.SequenceNode):
            text = _("Below “%(name)s:” a list is expected: each entry begins with “- ”.")
            self._note(source, _line(node), text % {"name": kind.name})
            return
        for item in node.value:
            self._take_entry(loader, source, kind, item)

    def _take_entry(self, loader: yaml.SafeLoader, source: Source, kind: Kind, item: yaml.Node) -> None:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name, node in self._pairs(loader, source, item, _("fields, like “%(key)s: …”") % {"key": kind.key[0]}):
            lines[str(name.value)] = _line(name)
            if name.value in kind.names:
                values[name.value] = self._value(loader, source, node)
                continue
            text = _("%(kind)s have no field %(name)s. Known are: %(known)s.")
            known = _choice(name, kind.names)
            self._note(source, _line(name), text % {"kind": kind.name, "name": name.value, "known": known})
        place = Place(source.name, _line(item))
        try:
            self._keep(Entry(kind, _key(kind, values), values, lines, place, source.folder))
        except Bad as problem:
            self.problems.append(f"{place}: {kind.name}: {problem}")

    def _keep(self, entry: Entry) -> None:
        first = self.entries.setdefault((entry.kind.name, entry.key), entry)
        if first is not entry:
            self.problems.append(entry.problem(_("It is described already, at %(place)s.") % {"place": first.place}))

    def _value(self, loader: yaml.SafeLoader, source: Source, node: yaml.Node) -> Any:
        try:
            return loader.construct_object(node, deep=True)
        except (ValueError, LookupError, AttributeError):  # 2027-13-01, half a character; !!bool x, !!timestamp x
            text = _("There is no such date, number or character. If it is a text, quote it.")
            self._note(source, _line(node), text)
            return None

    def _pairs(
        self, loader: yaml.SafeLoader, source: Source, node: yaml.Node | None, expected: str
    ) -> Iterable[tuple[yaml.Node, yaml.Node]]:
        """The pairs of a mapping, each name once: YAML itself would silently take the last."""
        if not isinstance(node, yaml.MappingNode):
            text = _("Here %(expected)s should stand.") % {"expected": expected}
            self._note(source, _line(node) if node else 1, text)
            return ()
        seen: dict[Any, int] = {}
        for name, _node in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self._note(source, _line(name), _("A name must be a plain word."))
            elif name.value in seen:
                text = _("%(name)s stands here twice, first in line %(line)d.")
                self._note(source, _line(name), text % {"name": name.value, "line": seen[name.value]})
            seen.setdefault(str(name.value), _line(name))
        loader.flatten_mapping(node)  # what "<<" brings in; what stands here itself comes after it
        words = [(name, value) for name, value in node.value if isinstance(name, yaml.ScalarNode)]
        return {str(name.value): (name, value) for name, value in words}.values()

    def _note(self, source: Source, line: int, message: str) -> None:
        self.problems.append(f"{Place(source.name, line)}: {message}")


def _key(kind: Kind, values: Mapping[str, Any]) -> Key:
    for name in kind.key:
        if not isinstance(values.get(name), str):
            text = _("%(name)s is missing, or is no text: by %(key)s each entry is known.")
            raise Bad(text % {"name": name, "key": ", ".join(kind.key)})
    return tuple(spelled(kind, name, values[name]) for name in kind.key)


def spelled(kind: Kind, name: str, text: str) -> str:
    """The normal form; what has none is left to the form, which says why."""
    try:
        return kind.spell[name](text) if name in kind.spell else text.strip()
    except ValueError:
        return text


def _choice(name: yaml.Node, known: Iterable[str]) -> str:
    """What was probably meant, else all that could be."""
    names = list(known)
    return ", ".join(get_close_matches(str(name.value), names, n=1) or names)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
