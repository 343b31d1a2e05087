"""The audit log's one writer: who did what to what, with which outcome.

An entry is written in the caller's transaction, so that event and change commit together: no event, no change.
Who and where come from monitoring.context. Secrets never get here in clear (monitoring.snapshots masks them).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from django.db import models, transaction

from monitoring.client_ip import parse_address
from monitoring.context import Actor, current
from monitoring.flood import FloodControl
from monitoring.models import AuditLog
from monitoring.snapshots import clean, diff, digest, snapshot
from monitoring.text import printable

__all__ = [
    "diff",
    "digest",
    "entry",
    "following",
    "on_refusal",
    "record",
    "record_changed",
    "record_created",
    "record_deleted",
    "record_many",
    "record_read",
    "record_refusal",
    "refusal_due",
    "snapshot",
    "write_overdue",
]

Outcome = Literal["success", "refused", "failure"]
ACTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", re.ASCII)
MANY: Final = 200
REFUSALS: Final = FloodControl()
READS: Final = FloodControl()
Observer = Callable[[str, Actor, str], None]
_observers: list[Observer] = []


@dataclass(frozen=True, slots=True)
class _Event:
    """What a suppressed repeat would have written, with who and where as they were then."""

    action: str
    target: tuple[str, str, str]
    outcome: Outcome
    reason: str
    actor: Actor
    address: str
    request_id: str


def record(
    action: str,
    *,
    target: models.Model | None = None,
    target_label: str = "",
    changes: Mapping[str, Any] | None = None,
    outcome: Outcome = "success",
    reason: str = "",
) -> None:
    """Write one entry. ``action`` is dotted and lower-case, like ``bot.created`` or ``webhook.rejected``.

    ``changes`` is ``{field: {"before": x, "after": y}}``, as ``diff`` makes it. Raises ValueError on a bad action.
    """
    _write(_event(action, _describe(target, target_label), outcome, reason), changes=changes)


def entry(
    action: str,
    *,
    pk: UUID,
    actor: Actor,
    target: models.Model,
    target_label: str = "",
    changes: Mapping[str, Any] | None = None,
    outcome: Outcome = "success",
    reason: str = "",
) -> AuditLog:
    """An entry for ``record_many``, under an id that follows from what it tells of."""
    row = _row(_Event(action, _describe(target, target_label), outcome, reason, actor, "", ""), changes=changes)
    row.pk = pk
    return row


def record_many(rows: Iterable[AuditLog]) -> None:
    """Write entries of ``entry`` by as few statements as fit, in the caller's transaction."""
    AuditLog.objects.bulk_create(rows, batch_size=MANY)


def record_created(instance: models.Model, *, reason: str = "") -> None:
    changes = diff({}, snapshot(instance, many_to_many=True))
    record(f"{_noun(instance)}.created", target=instance, changes=changes, reason=reason)


def record_changed(instance: models.Model, before: Mapping[str, Any], *, reason: str = "") -> None:
    """``before`` is a snapshot (with its many-to-many relations) taken before the change. Nothing changed: no entry."""
    changes = diff(before, snapshot(instance, many_to_many=True))
    if changes:
        record(f"{_noun(instance)}.changed", target=instance, changes=changes, reason=reason)


@contextmanager
def following(model: type[models.Model], pk: Any) -> Iterator[None]:
    """For code that changes a row by itself: what it did is written, in the same transaction."""
    with transaction.atomic():
        row = model._base_manager.filter(pk=pk).first()
        before = snapshot(row, many_to_many=True) if row else {}
        yield
        if row:
            record_changed(model._base_manager.get(pk=pk), before)


def record_deleted(instance: models.Model, *, reason: str = "") -> None:
    """Call it before deleting, in the same transaction: afterwards the row has no key any more."""
    changes = diff(snapshot(instance, many_to_many=True), {})
    record(f"{_noun(instance)}.deleted", target=instance, changes=changes, reason=reason)


def record_refusal(
    action: str,
    *,
    target: models.Model | None = None,
    target_label: str = "",
    reason: str,
    outcome: Outcome = "refused",
) -> bool:
    """Write a refusal, with flood control: the first at once, then one a minute with a count. True when written.

    Counted per (client network, target, action and reason); ``reason`` must be one of few texts of ours, never
    the caller's. Call it outside of a transaction that the refusal rolls back.
    """
    where = _describe(target, target_label)
    event = _event(action, where, outcome, reason)
    for observe in _observers:
        observe(action, event.actor, event.address)
    count = refusal_due(event.address, where, f"{action}: {reason}", event)
    if count:
        _write(event, count=count)
    write_overdue()
    return bool(count)


def on_refusal(observer: Observer) -> None:
    """Have ``observer(action, actor, address)`` called for every refusal, written or only counted."""
    if observer not in _observers:
        _observers.append(observer)


def refusal_due(address: str, target: object, reason: str, memo: Any = None) -> int:
    """Count a refusal: how many an entry must tell of now, 0 if none is due. Never blocks, touches no database."""
    return REFUSALS.due((_network(address), target, reason), memo)


def record_read(action: str, *, target: models.Model | None = None, target_label: str = "") -> None:
    """Write that somebody read what is worth noting, once a minute with a count for each reader and thing."""
    where = _describe(target, target_label)
    event = _event(action, where)
    count = READS.due((event.actor, event.address, action, where), event)
    if count:
        _write(event, count=count)


def write_overdue(*, everything: bool = False) -> int:
    """Write the counts whose minute is over (at shutdown: all). For the scheduler: a flood's end is told too."""
    waiting = [pair for flood in (REFUSALS, READS) for pair in flood.overdue(everything=everything)]
    for event, count in waiting:
        if event is not None:
            _write(event, count=count)
    return len(waiting)


def _event(action: str, target: tuple[str, str, str], outcome: Outcome = "success", reason: str = "") -> _Event:
    context = current()
    return _Event(action, target, outcome, reason, context.actor, context.address, context.request_id)


def _write(event: _Event, *, changes: Mapping[str, Any] | None = None, count: int = 1) -> None:
    _row(event, changes=changes, count=count).save()


def _row(event: _Event, *, changes: Mapping[str, Any] | None = None, count: int = 1) -> AuditLog:
    if not ACTION.fullmatch(event.action):
        raise ValueError(f"An audit action is dotted and lower-case, not {event.action!r}.")
    target_type, target_id, target_label = event.target
    return AuditLog(
        action=event.action,
        actor_kind=event.actor.kind,
        actor_id=printable(event.actor.id, 64),
        actor_label=printable(event.actor.label, 200),
        target_type=target_type,
        target_id=target_id,
        target_label=target_label,
        changes=clean(changes or {}),
        outcome=event.outcome,
        reason=printable(event.reason, 500),
        count=count,
        address=event.address,
        request_id=printable(event.request_id, 64),
    )


def _describe(target: models.Model | None, label: str) -> tuple[str, str, str]:
    """Return (type, id, label) of a target, fit for their columns."""
    if target is None:
        return "", "", printable(label, 200)
    return target._meta.label_lower, printable(str(target.pk), 64), printable(label or str(target), 200)


def _noun(instance: models.Model) -> str:
    return instance._meta.model_name or "row"


def _network(address: str) -> str:
    """One caller: an IPv4 address, or an IPv6 /64, which is what one customer gets."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed or "")
