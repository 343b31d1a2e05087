"""Rows of the processes become one row a minute; old ones go, and the heartbeats of processes that are long gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from monitoring.models import Heartbeat, Rollup

MERGE_AFTER: Final = timedelta(minutes=3)
KEPT: Final = timedelta(days=8)  # the same hour of a week ago can still be seen
FORGET_AFTER: Final = timedelta(days=1)
MOST: Final = 500  # rows of one run
Level = list[float]


def tidy(now: datetime) -> None:
    """For the leader, once a minute."""
    merge(now - MERGE_AFTER)
    Rollup.objects.filter(minute__lt=now - KEPT).delete()
    Heartbeat.objects.filter(seen_at__lt=now - FORGET_AFTER).delete()


def merge(before: datetime) -> None:
    """Late rows are added to what is there."""
    with transaction.atomic():
        rows = list(Rollup.objects.exclude(process="").filter(minute__lt=before).order_by("minute")[:MOST])
        minutes = {row.minute for row in rows}
        merged = {row.minute: row for row in Rollup.objects.filter(process="", minute__in=minutes)}
        for minute in minutes:
            whole = merged.get(minute) or Rollup(minute=minute, process="")
            parts = [whole, *(row for row in rows if row.minute == minute)]
            whole.sums, whole.levels = added(row.sums for row in parts), joined(row.levels for row in parts)
            whole.save()
        Rollup.objects.filter(pk__in=[row.pk for row in rows]).delete()


def added(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0.0) + value
    return found


def joined(parts: Iterable[dict[str, Level]]) -> dict[str, Level]:
    found: dict[str, Level] = {}
    for part in parts:
        for name, (total, looks, most) in part.items():
            known = found.get(name, [0.0, 0, most])
            found[name] = [known[0] + total, known[1] + looks, max(known[2], most)]
    return found
