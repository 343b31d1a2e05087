"""What the sweeper finds: due work that nobody holds, whatever lost it (a doorbell, a worker, Redis)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from bots import pushes
from bots.models import Message

Status = Message.Status
AGE_S = 2.0
MOST = 200  # of each queue
LOOK_AT = 5_000  # conversations
DELIVERY = "delivery"
READY = Q(status=Status.ANSWERED) | Q(details__kind="busy")  # needs no model
FREE = Q(conversation__lease_until__isnull=True) | Q(conversation__lease_until__lt=Now())


def questions() -> Iterator[tuple[UUID, str, bool]]:
    """(conversation, queue, needs a model) of conversations where something is due and nobody works, oldest first.

    Each queue has its own share of MOST: one without a worker does not keep the others waiting.
    """
    now = timezone.now()
    in_backoff = Message.objects.waiting().filter(conversation=OuterRef("conversation"), next_attempt_at__gt=now)
    overdue = Q(received_at__lt=now - timedelta(seconds=AGE_S))
    rows = (
        Message.objects.due(now)
        .filter(FREE, overdue, ~Exists(in_backoff))  # those behind a postponed one wait for it
        .order_by()
        .values_list("conversation_id", "conversation__bot__model__queue")
        .annotate(since=Min("received_at"), ready=Count("pk", filter=READY))
        .order_by("since")
    )
    found: Counter[str] = Counter()
    for conversation_id, model_queue, _since, ready in rows[:LOOK_AT]:
        queue = DELIVERY if ready else model_queue
        found[queue] += 1
        if found[queue] <= MOST:
            yield conversation_id, model_queue, not ready


def due_pushes() -> Iterator[UUID]:
    """Conversations with pushes that are due and that nobody holds."""
    now = timezone.now()
    in_backoff = pushes.waiting().filter(conversation=OuterRef("conversation"), next_attempt_at__gt=now)
    is_due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    rows = pushes.waiting().filter(FREE, is_due, ~Exists(in_backoff)).values_list("conversation_id", flat=True)
    yield from dict.fromkeys(rows[:MOST])
