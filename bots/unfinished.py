"""Cards that were left open: the question is settled, or its reply replaced, and the card still says "writing".

A worker that died is followed by another, which finishes the card. But an answer may end otherwise: given up, put
away, retried as a new reply, its endpoint gone for a while. Then nobody comes back to the card, and this closes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from bots.addressing import credentials_of, target_of
from bots.journal import DatabaseJournal, held
from bots.models import DeliveryStep, Message
from clawdbot_site.security.encryption import DecryptionError
from integrations.errors import PlatformError
from integrations.registry import adapter_for

logger = logging.getLogger(__name__)

OPEN_FOR: Final = timedelta(minutes=2)  # longer than any worker needs from the card's last text to settling
UNTIL: Final = timedelta(hours=6)  # nobody looks at an older one
MOST: Final = 50  # at a time
CARD, FINISHED = "card", "finished"  # the steps that a platform's reply writes
State = DeliveryStep.State


def close_all() -> int:
    """Close what was left open; returns how many replies were looked after. Safe to run twice at once."""
    replies = list(_left_open())
    for reply in replies:
        _close(reply)
    return len(replies)


def _left_open() -> Iterator[Message]:
    now = timezone.now()
    steps = DeliveryStep.objects.filter(name=CARD, first_tried_at__gt=now - UNTIL, first_tried_at__lt=now - OPEN_FOR)
    ended = DeliveryStep.objects.filter(message=OuterRef("message"), name=FINISHED).exclude(state=State.INTENDED)
    is_over = ~Q(message__reply_to__status__in=Message.WAITING) | Q(message__is_current=False)
    found = steps.exclude(state=State.REFUSED).filter(is_over, ~Exists(ended)).order_by("first_tried_at")
    for step in found.select_related("message__reply_to__conversation")[:MOST]:
        yield step.message


def _close(reply: Message) -> None:
    question, journal = reply.reply_to, DatabaseJournal(held(reply))
    try:
        if question is not None:
            adapter = adapter_for(question.platform)
            stream = adapter.open_reply(credentials_of(question), target_of(question), journal, streaming=False)
            stream.abandon("")
    except (PlatformError, DecryptionError) as problem:
        logger.warning("a card was not closed", extra={"message_id": str(reply.pk), "reason": str(problem)})
        if not getattr(problem, "permanent", True):
            return  # tried again at the next look
    _note(journal)


def _note(journal: DatabaseJournal) -> None:
    """Look at it once: a platform whose cards end by themselves notes nothing."""
    step = journal.find(FINISHED)
    if step is None or step.state == "intended":
        journal.refused(FINISHED, "left open; nobody came back to it")
    journal.save()
