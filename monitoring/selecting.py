"""Which entries somebody wants to see: one meaning of each filter, for the admin and for REST."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from monitoring.models import AuditLog

Entries = QuerySet[AuditLog]


def by_action(entries: Entries, value: str) -> Entries:
    """``bot.created``, or ``bot.`` for all that begins so."""
    return entries.filter(action__startswith=value) if value.endswith(".") else entries.filter(action=value)


def by_actor(entries: Entries, value: str) -> Entries:
    """The id or name of a person or client, or a kind of actor."""
    return entries.filter(Q(actor_id=value) | Q(actor_label=value) | Q(actor_kind=value))


def by_target(entries: Entries, value: str) -> Entries:
    """The id or label of the target, its kind (``bots.bot``), or both (``bots.bot:<id>``): one object's history."""
    kind, colon, key = value.partition(":")
    if colon and "." in kind:
        return entries.filter(target_type=kind, target_id=key)
    return entries.filter(Q(target_id=value) | Q(target_label=value) | Q(target_type=value))
