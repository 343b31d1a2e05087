"""The list of rules. A rule looks and returns what is wrong now; how long it must hold is said beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext_lazy as _

from monitoring.models import AlertRule, Severity
from monitoring.rollups.history import History

logger = logging.getLogger(__name__)

GROUPS: Final = {
    "traffic": _("Traffic"),
    "models": _("Models"),
    "messages": _("Messages"),
    "processes": _("Processes"),
    "services": _("Services"),
    "platforms": _("Platforms"),
    "machine": _("Machine"),
    "security": _("Security"),
}


@dataclass(frozen=True, slots=True)
class Breach:
    """Something is wrong with ``subject``. Empty ``severity``: the rule's own."""

    subject: str
    summary: str
    value: float | None = None
    severity: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What a rule is given: the moment, its threshold as set here, the last hours, and which of its alerts are open."""

    now: datetime
    threshold: float
    history: History
    open_subjects: frozenset[str] = frozenset()


Looker = Callable[[Look], Iterable[Breach]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the list. Without ``look`` something else opens and closes its alerts.

    ``quiet_under``: rules whose open alert explains this one, which then says nothing new.
    """

    name: str
    title: Any
    group: str
    look: Looker | None = None
    threshold: float | None = None
    unit: Any = ""
    for_s: float = 0.0
    severity: str = Severity.WARNING.value
    needs_database: bool = True
    quiet_under: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """A rule as it is set here."""

    rule: Rule
    threshold: float
    for_s: float
    severity: str
    is_enabled: bool = True

    @classmethod
    def of(cls, rule: Rule, row: AlertRule | None) -> Setting:
        if row is None:
            return cls(rule, rule.threshold or 0.0, rule.for_s, rule.severity)
        threshold = row.threshold if row.threshold is not None and rule.threshold is not None else rule.threshold
        for_s = rule.for_s if row.for_s is None else float(row.for_s)
        return cls(rule, threshold or 0.0, for_s, row.severity or rule.severity, row.is_enabled)


_rules: dict[str, Rule] = {}


def register(*rules: Rule) -> None:
    """Add to the list, or replace. Raises ValueError for a group that nobody knows."""
    for rule in rules:
        if rule.group not in GROUPS:
            raise ValueError(f"{rule.group} is not a group of monitoring.alerting.rules.GROUPS.")
        _rules[rule.name] = rule


def all_rules() -> list[Rule]:
    return list(_rules.values())


def find(name: str) -> Rule | None:
    return _rules.get(name)


def group_of(name: str) -> str:
    rule = _rules.get(name)
    return rule.group if rule else "services"


def settings_of_rules() -> list[Setting]:
    """Every rule as it is set. Raises DatabaseError."""
    rows = {row.name: row for row in AlertRule.objects.all()}
    return [Setting.of(rule, rows.get(rule.name)) for rule in all_rules()]


def ensure_rows() -> None:
    """A row for every rule, to be set in the admin; one that no rule has any more goes."""
    known = set(AlertRule.objects.values_list("name", flat=True))
    AlertRule.objects.bulk_create([AlertRule(name=name) for name in _rules if name not in known], ignore_conflicts=True)
    AlertRule.objects.exclude(name__in=_rules).delete()


def breaches(setting: Setting, look: Look) -> list[Breach] | None:
    """What the rule finds; None when it could not look. Raises DatabaseError, InterfaceError."""
    assert setting.rule.look is not None
    try:
        return list(setting.rule.look(look))
    except (DatabaseError, InterfaceError):
        raise
    except Exception:  # one broken rule must not hide the others
        logger.exception("an alert rule could not look", extra={"rule": setting.rule.name})
        return None
