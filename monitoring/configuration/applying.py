"""Makes the database equal to what files say: all of it in one transaction, or nothing.

A dry run does the same and takes it back, so that it says exactly what would happen, new things that refer to new
things included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from django.db import IntegrityError, models, transaction
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.translation import gettext as _

from monitoring.configuration.errors import Bad, ConfigurationError
from monitoring.configuration.given import form_value
from monitoring.configuration.kinds import Kind, all_kinds
from monitoring.configuration.reading import Entry
from monitoring.configuration.rows import Rows
from monitoring.context import Actor, bind

ACTOR: Final = Actor("system", label="command configure")
Sign = Literal["+", "~", "-"]


class Remark(str):
    """Words about a value that is not to be seen."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Change:
    """``fields``: (name, before, after) of what is set; of a secret a ``Remark``."""

    doing: Sign
    label: str
    fields: tuple[tuple[str, Any, Any], ...] = ()
    goes_with_it: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0

    def count(self, doing: Sign) -> int:
        return sum(change.doing == doing for change in self.changes)


@dataclass(frozen=True, slots=True)
class Options:
    prune: bool = False
    dry_run: bool = False
    allow_literal_secrets: bool = False


class Operator:
    """Who stands behind the admin's own code here: whoever may run commands on this machine."""

    def get_username(self) -> str:
        return ACTOR.label


class _Unmade(Exception):
    """It refers to something that is wrong itself, which was said already."""


def apply(entries: Iterable[Entry], named: Iterable[Kind], options: Options) -> Outcome:
    """Raises ConfigurationError, with nothing changed."""
    with bind(actor=ACTOR), transaction.atomic():
        run = _Run(options)
        run.carry_out(list(entries), list(named))
        if run.problems:
            raise ConfigurationError(run.problems)
        if options.dry_run:
            transaction.set_rollback(True)
    return run.outcome


class _Run:
    def __init__(self, options: Options) -> None:
        self.options, self.outcome = options, Outcome()
        self.problems: list[str] = []
        self._rows = Rows(all_kinds())
        self._wrong: set[tuple[str, str]] = set()
        self._request = HttpRequest()
        self._request.user = Operator()  # type: ignore[assignment]  # nobody's account

    def carry_out(self, entries: list[Entry], named: list[Kind]) -> None:
        """What goes may stand in the way of what comes, or be still in use until that is there."""
        kept = {(entry.kind.name, entry.key) for entry in entries}
        if self.options.prune:
            self._prune(named, kept, is_last=False)
        for entry in entries:
            self._take(entry)
        if self.options.prune and not self.problems:
            self._prune(named, kept, is_last=True)

    # -- making and changing --

    def _take(self, entry: Entry) -> None:
        try:
            with transaction.atomic():
                self._make_equal(entry)
        except _Unmade:
            self._wrong.add((entry.kind.name, entry.key[0]))
        except Bad as problem:
            self._note(entry, str(problem))
        except IntegrityError:
            self._note(entry, _("This contradicts what is stored."))

    def _make_equal(self, entry: Entry) -> None:
        kind, row = entry.kind, self._rows.find(entry.kind, entry.key)
        if row is None and not kind.can_be_made:
            known = ", ".join(sorted(key[0] for key in self._rows.of(kind)))
            raise Bad(_("There is none of this name, and none can be made. Known are: %(known)s.") % {"known": known})
        before = self._rows.values(kind, row, entry.values) if row else {}
        form = self._filled(entry, row)
        if not form.is_valid():
            self._note_errors(entry, form)
            raise _Unmade
        is_new = row is None
        made: Any = kind.admin.save_form(self._request, form, change=not is_new)
        after = self._after(entry, form, made)
        if not is_new and before == after:
            self.outcome.unchanged += 1
            return
        self._save(kind, form, made, is_new=is_new)
        changed = [name for name in after if name not in kind.key and before.get(name) != after[name]]
        fields = tuple(_shown(kind, name, before.get(name), after[name]) for name in changed)
        self.outcome.changes.append(Change("+" if is_new else "~", entry.label, fields))

    def _filled(self, entry: Entry, row: Any) -> ModelForm:
        """The admin's form with what is stored, and over it what the file says."""
        kind, form_class = entry.kind, entry.kind.form_class()
        instance = row or (kind.new() if kind.new else kind.model())
        blank = form_class(instance=instance)
        data = {name: one.prepare_value(blank.get_initial_for_field(one, name)) for name, one in blank.fields.items()}
        given = self._given(entry, blank, set(kind.fixed(row)) if row else set())
        for name, value in given.items():
            if blank.fields[name].disabled and str(value) != str(data[name]):
                self._note(entry, str(blank.fields[name].help_text), name)
        return form_class({**data, **kind.answers, **given}, instance=instance)

    def _given(self, entry: Entry, blank: ModelForm, fixed: set[str]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        is_right = True
        for name in entry.values:
            if name not in blank.fields:
                continue  # the name of one of a fixed list
            try:
                if name in fixed:
                    raise Bad(_("This cannot be set here."))
                self._follow(entry, name)
                given[name] = form_value(
                    entry, name, blank.fields[name], self._rows, allow_literal=self.options.allow_literal_secrets
                )
            except Bad as problem:
                self._note(entry, str(problem), name)
                is_right = False
        if not is_right:
            raise _Unmade
        return given

    def _follow(self, entry: Entry, name: str) -> None:
        """Of what is wrong itself nothing is said a second time."""
        target, value = entry.kind.refers.get(name, ""), entry.values[name]
        wrong = [named for kind_name, named in self._wrong if kind_name == target]
        if any(one in wrong for one in (value if isinstance(value, list) else [value])):
            raise _Unmade

    def _after(self, entry: Entry, form: ModelForm, made: Any) -> dict[str, Any]:
        """What the file says, as it would be read from the row; of lists of things the form alone knows yet."""
        kind = entry.kind
        lists = {one.name for one in kind.model._meta.many_to_many}
        return {
            name: self._rows.names(kind.refers[name], list(form.cleaned_data[name]))
            if name in lists
            else self._rows.value(kind, made, name)
            for name in entry.values
        }

    def _save(self, kind: Kind, form: ModelForm, made: Any, *, is_new: bool) -> None:
        """As the admin does, with its audit entry."""
        kind.admin.save_model(self._request, made, form, change=not is_new)
        kind.admin.save_related(self._request, form, [], change=not is_new)
        if is_new:
            self._rows.add(kind, made)

    # -- deleting --

    def _prune(self, named: list[Kind], kept: set[tuple[str, Any]], *, is_last: bool) -> None:
        """Delete, what refers before what is referred to."""
        for kind in reversed([one for one in named if one.can_be_pruned]):
            for key, rows in list(self._rows.of(kind).items()):
                for row in rows if (kind.name, key) not in kept else ():
                    self._delete(kind, f"{kind.name}/{'/'.join(key)}", row, is_last=is_last)

    def _delete(self, kind: Kind, label: str, row: models.Model, *, is_last: bool) -> None:
        try:
            with transaction.atomic():
                others = tuple(_goes_with(row))
                kind.admin.delete_model(self._request, row)
        except models.ProtectedError as error:
            if is_last:
                users = sorted({f"{one._meta.verbose_name} {one}" for one in error.protected_objects})
                text = _("%(label)s cannot be deleted. Still in use by: %(users)s.")
                self.problems.append(text % {"label": label, "users": ", ".join(users[:5])})
        else:
            self._rows.remove(kind, row)
            self.outcome.changes.append(Change("-", label, goes_with_it=others))

    # -- what is wrong --

    def _note(self, entry: Entry, message: str, name: str = "") -> None:
        self.problems.append(entry.problem(message, name))
        self._wrong.add((entry.kind.name, entry.key[0]))

    def _note_errors(self, entry: Entry, form: ModelForm) -> None:
        for name, messages in form.errors.items():
            for message in messages:
                self._note(entry, str(message), "" if name == "__all__" else name)


def _shown(kind: Kind, name: str, before: Any, after: Any) -> tuple[str, Any, Any]:
    """A secret is not told, not even as a digest: only that there is one, or another one."""
    if name not in kind.secrets:
        return name, before, after
    return name, None, Remark(_("(changed)") if before else _("(a secret)"))


def _goes_with(row: models.Model) -> Iterable[str]:
    """What the database deletes together with the row, counted."""
    for relation in row._meta.related_objects:
        if getattr(relation, "on_delete", None) is models.CASCADE:
            other: Any = relation.related_model
            if count := other._base_manager.filter(**{relation.field.name: row}).count():
                yield f"{other._meta.verbose_name_plural}: {count}"
