"""What /metrics and /readyz show of the message path. Asked for when somebody scrapes, never counted along the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, DateTimeField, Min, Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone

from bots import heartbeats
from bots.models import Message
from monitoring import metrics

Status = Message.Status
ABANDONED_AFTER_S = 60.0


def register() -> None:
    metrics.register_gauge("clawdbot_queue_depth", queue_depth)
    metrics.register_gauge("clawdbot_queue_oldest_seconds", queue_oldest_s)
    metrics.register_gauge("clawdbot_dead_letters", dead_letters)
    metrics.register_gauge("clawdbot_workers", heartbeats.workers)
    metrics.register_gauge("clawdbot_scheduler_silent_seconds", heartbeats.scheduler_silent_s)


def _waiting() -> dict[str, dict[str, object]]:
    """Per queue: answers are asked of the model's queue, stored ones of ``delivery``.

    What a worker is writing right now does not wait; and what was tried again by hand waits since then, not since it
    came: machines are added by these figures.
    """
    is_held = Q(status=Status.ANSWERING, conversation__lease_until__gt=timezone.now())
    retried_at = Cast(KeyTextTransform("retried_at", "details"), DateTimeField())
    rows = Message.objects.waiting().exclude(is_held).order_by().annotate(since=Coalesce(retried_at, "received_at"))
    found: Iterable[Any] = rows.values("conversation__bot__model__queue").annotate(
        asked=Count("pk", filter=~Q(status=Status.ANSWERED)),
        asked_since=Min("since", filter=~Q(status=Status.ANSWERED)),
        stored=Count("pk", filter=Q(status=Status.ANSWERED)),
        stored_since=Min("since", filter=Q(status=Status.ANSWERED)),
    )
    return {str(row["conversation__bot__model__queue"]): dict(row) for row in found}


def queue_depth() -> dict[str, float]:
    waiting = _waiting()
    depth = {queue: float(str(row["asked"])) for queue, row in waiting.items()} or {"inference": 0.0}
    depth["delivery"] = float(sum(int(str(row["stored"])) for row in waiting.values()))
    return depth


def queue_oldest_s() -> dict[str, float]:
    now, waiting = timezone.now(), _waiting()

    def age(since: object) -> float:
        return max(0.0, (now - since).total_seconds()) if since else 0.0  # type: ignore[operator]  # a datetime

    oldest = {queue: age(row["asked_since"]) for queue, row in waiting.items()} or {"inference": 0.0}
    oldest["delivery"] = max((age(row["stored_since"]) for row in waiting.values()), default=0.0)
    return oldest


def dead_letters() -> float:
    return float(Message.objects.dead_letters().count())
