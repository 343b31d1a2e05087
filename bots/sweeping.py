"""What the sweeper finds: due work that nobody holds, whatever lost it (a doorbell, a worker, Redis)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from bots import pushes
from bots.models import Message
from bots.notices import needs_no_model

Status = Message.Status
AGE_S = 2.0
MOST = 500
FREE = Q(conversation__lease_until__isnull=True) | Q(conversation__lease_until__lt=Now())


def questions() -> Iterator[tuple[UUID, str, bool]]:
    """(conversation, queue, needs a model) of questions that are due and held by nobody."""
    now = timezone.now()
    in_backoff = Message.objects.waiting().filter(conversation=OuterRef("conversation"), next_attempt_at__gt=now)
    overdue = Q(received_at__lt=now - timedelta(seconds=AGE_S))
    rows = (
        Message.objects.due(now)
        .filter(FREE, overdue, ~Exists(in_backoff))  # those behind a postponed one wait for it
        .select_related("conversation__bot__model")
        .only("status", "details", "conversation__bot__model__queue")
    )
    seen: set[UUID] = set()
    for message in rows[:MOST]:
        if message.conversation_id not in seen:
            seen.add(message.conversation_id)
            needs_model = message.status != Status.ANSWERED and not needs_no_model(message)
            yield message.conversation_id, message.conversation.bot.model.queue, needs_model


def due_pushes() -> Iterator[UUID]:
    """Conversations with pushes that are due and that nobody holds."""
    now = timezone.now()
    in_backoff = pushes.waiting().filter(conversation=OuterRef("conversation"), next_attempt_at__gt=now)
    is_due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    rows = pushes.waiting().filter(FREE, is_due, ~Exists(in_backoff)).values_list("conversation_id", flat=True)
    yield from dict.fromkeys(rows[:MOST])
