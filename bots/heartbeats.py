"""Which workers live, and whether the scheduler works, by the heartbeats that processes write every ten seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from inference.models import LanguageModel
from monitoring.models import Heartbeat

SILENT_AFTER: Final = timedelta(seconds=35)  # three heartbeats missed
FRESHLY_STARTED: Final = timedelta(seconds=60)


def queues_in_use() -> list[str]:
    """Those of the models of enabled bots, and the product's own."""
    models = LanguageModel.objects.filter(bots__is_enabled=True)
    return sorted({*models.values_list("queue", flat=True), "delivery", "default"})


def workers() -> dict[str, float]:
    """How many living workers listen to each queue in use."""
    listened = [queue for row in _alive() for queue in row.facts.get("queues", [])]
    return {queue: float(listened.count(queue)) for queue in queues_in_use()}


def scheduler_silent_s() -> float | None:
    """It has a worker of the queue ``default`` sweep every two seconds, and that one tells when it last did.

    None while no such worker has lived for a minute: then nobody can say.
    """
    able = [row for row in _alive() if "default" in row.facts.get("queues", [])]
    oldest = min((row.started_at for row in able), default=None)
    now = timezone.now()
    if oldest is None or oldest > now - FRESHLY_STARTED:
        return None
    swept = [at for row in able if (at := parse_datetime(str(row.facts.get("swept_at", ""))))]
    return max(0.0, (now - max(swept, default=oldest)).total_seconds())


def _alive() -> list[Heartbeat]:
    since = timezone.now() - SILENT_AFTER
    return list(Heartbeat.objects.filter(role__in=("worker", "embedded"), seen_at__gt=since))
