"""Deleting old messages, for bots that keep theirs for some days only. In batches, each with its audit entry.

The days are whole ones of the site's time zone, so that yesterday's costs can still be counted (bots/costs.py). What
is still to be answered or delivered stays.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from bots.models import Bot, Conversation, Message
from monitoring import audit

BATCH: Final = 500
BUDGET_S: Final = 60.0
QUESTION_OR_PUSH: Final = Q(role=Message.Role.USER) | Q(reply_to__isnull=True)


def purge(budget_s: float = BUDGET_S) -> None:
    """For the scheduler: what is not done when the time is up is done the next time."""
    end = time.monotonic() + budget_s
    for bot in Bot.objects.filter(keep_messages_days__gt=0).order_by("slug"):
        while time.monotonic() < end and _batch(bot):
            pass


def _batch(bot: Bot) -> bool:
    """Delete some of a bot's oldest messages; False when there are no more."""
    until = _oldest_kept(bot)
    with transaction.atomic():
        old = Message.objects.filter(QUESTION_OR_PUSH, conversation__bot=bot, received_at__lt=until)
        settled = old.exclude(status__in=Message.WAITING).order_by("received_at", "id")
        keys = list(settled.values_list("pk", flat=True)[:BATCH])
        _total, deleted = Message.objects.filter(pk__in=keys).delete()
        _more, emptied = _empty_conversations(bot, until)
        _note(bot, until, {**deleted, **emptied})
    return len(keys) == BATCH


def _empty_conversations(bot: Bot, until: datetime) -> tuple[int, dict[str, int]]:
    has_messages = Exists(Message.objects.filter(conversation=OuterRef("pk")))
    rows = Conversation.objects.filter(~has_messages, bot=bot, created_at__lt=until, lease_owner="")
    return Conversation.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:BATCH])).delete()


def _note(bot: Bot, until: datetime, deleted: Mapping[str, int]) -> None:
    counts = {label.partition(".")[2].lower(): count for label, count in deleted.items() if count}
    if counts:
        audit.record("messages.purged", target=bot, changes={"deleted": counts, "older_than": until})


def _oldest_kept(bot: Bot) -> datetime:
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=bot.keep_messages_days)
