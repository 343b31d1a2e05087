"""The dashboard's numbers, of the messages that the person may see.

Each is one query, however many bots there are; long tails are sampled, never scanned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

from bots.models import Bot, Message
from bots.models.conversation import MessageQuerySet

Status = Message.Status
HOURS = 24
SAMPLE = 5000  # of the newest questions, for the percentiles
MOST_BOTS = 50
MOST_COUNTED = 10_000
ARRIVED, LOST = Q(status=Status.DELIVERED), Q(status__in=(Status.FAILED, Status.UNCONFIRMED))


@dataclass(frozen=True, slots=True)
class Today:
    """Questions since midnight. ``answered_percent`` is of those that came to an end; None when none did."""

    questions: int
    answered: int
    lost: int

    @property
    def answered_percent(self) -> float | None:
        ended = self.answered + self.lost
        return 100 * self.answered / ended if ended else None


@dataclass(frozen=True, slots=True)
class Durations:
    """Milliseconds from the question to the visible answer, of the last day."""

    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class BotDay:
    """One bot's last day."""

    bot: Bot
    questions: int
    lost: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Hour:
    begins_at: datetime
    questions: int
    lost: int


def questions_since(shown: MessageQuerySet, since: datetime) -> MessageQuerySet:
    return shown.filter(role=Message.Role.USER, received_at__gte=since).order_by()


def today(shown: MessageQuerySet) -> Today:
    rows = questions_since(shown, timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0))
    found = rows.aggregate(n=Count("pk"), answered=Count("pk", filter=ARRIVED), lost=Count("pk", filter=LOST))
    return Today(found["n"], found["answered"], found["lost"])


def waiting(shown: MessageQuerySet) -> int:
    return shown.waiting().count()


def dead_letters(shown: MessageQuerySet, status: str) -> int:
    """How many wait for a person, counted up to MOST_COUNTED."""
    return shown.dead_letters().filter(status=status).order_by()[:MOST_COUNTED].count()


def durations(shown: MessageQuerySet, since: datetime) -> Durations:
    rows = (
        questions_since(shown, since).filter(ARRIVED).order_by("-received_at").values_list("timings__total", flat=True)
    )
    known = sorted(float(one) for one in rows[:SAMPLE] if one is not None)
    return Durations(percentile(known, 0.5), percentile(known, 0.95))


def percentile(ordered: list[float], share: float) -> float | None:
    """The smallest value that at least this share of them do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * int(share * 100) // 100) - 1)]


def per_bot(shown: MessageQuerySet, bots_shown: QuerySet[Bot], since: datetime) -> list[BotDay]:
    rows = questions_since(shown, since).values("conversation__bot")
    counted = rows.annotate(n=Count("pk"), lost=Count("pk", filter=LOST), tokens=Sum("completion_tokens"))
    days: dict[Any, dict[str, Any]] = {row["conversation__bot"]: dict(row) for row in counted}
    nothing = {"n": 0, "lost": 0, "tokens": 0}
    bots = bots_shown.select_related("model").order_by("-is_enabled", "name")[:MOST_BOTS]
    return [
        BotDay(bot, day["n"], day["lost"], day["tokens"] or 0) for bot in bots for day in [days.get(bot.pk, nothing)]
    ]


def per_hour(shown: MessageQuerySet, now: datetime) -> list[Hour]:
    """The last 24 hours, oldest first, empty ones too."""
    current = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
    first = current - timedelta(hours=HOURS - 1)
    rows = questions_since(shown, first).annotate(hour=TruncHour("received_at")).values("hour")
    counted = {row["hour"]: row for row in rows.annotate(n=Count("pk"), lost=Count("pk", filter=LOST))}
    hours = [first + timedelta(hours=number) for number in range(HOURS)]
    return [Hour(one, counted[one]["n"], counted[one]["lost"]) if one in counted else Hour(one, 0, 0) for one in hours]


def newest_dead_letters(shown: MessageQuerySet, most: int = 5) -> list[Message]:
    rows = shown.dead_letters().select_related("conversation__bot").defer("session_url")
    return list(rows.order_by("-received_at")[:most])
