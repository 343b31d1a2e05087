"""What bots and models used and cost, by day: counted from the messages, so that answering pays nothing for it.

The days of today and yesterday are counted again every few minutes and whole, which makes it safe to run twice or
never. Today's price counts for all of today; what a day before cost is not changed by a later price.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform
from django.http import HttpResponse
from django.utils import timezone

from bots.models import Bot, Message, ModelUsage
from clawdbot_site.security.teams import teams_of, visible
from inference.models import LanguageModel
from monitoring import exports

MILLION = Decimal(1_000_000)
FIELDS = ("answers", "fallbacks", "prompt_tokens", "completion_tokens", "prompt_price", "completion_price", "cost")


@dataclass(frozen=True, slots=True)
class Total:
    """Sums of what is listed, of one currency."""

    currency: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal


def count_recent() -> None:
    """Count yesterday and today again."""
    today = timezone.localdate()
    for day in (today - timedelta(days=1), today):
        count(day, keeps_price=day < today)


def count(day: date, *, keeps_price: bool) -> None:
    """Count one day again. With ``keeps_price`` a row that is there keeps the prices of that day."""
    prices = {model.name: model for model in LanguageModel.objects.all()}
    with transaction.atomic():
        rows = {(row.bot, row.model): row for row in ModelUsage.objects.select_for_update().filter(day=day)}
        for used in _used_on(day):
            row = rows.get((used["bot"], used["model"])) or ModelUsage(day=day, bot=used["bot"], model=used["model"])
            _fill(row, used, None if keeps_price and not row._state.adding else prices.get(used["model"]))
            row.save()


def visible_usage(rows: QuerySet[ModelUsage], caller: object) -> QuerySet[ModelUsage]:
    """Of the bots that the caller may know of. What deleted bots cost is for who sees everything: nobody owns it."""
    if teams_of(caller) is None:
        return rows
    return rows.filter(bot__in=visible(Bot.objects.all(), caller).values("slug"))


def totals(rows: QuerySet[ModelUsage]) -> list[Total]:
    """Of the rows that a list shows, a line for each currency."""
    sums = {name: Sum(name) for name in ("answers", "prompt_tokens", "completion_tokens", "cost")}
    found = rows.order_by().values("currency").annotate(**sums).order_by("currency")
    return [Total(*row) for row in found.values_list("currency", *sums)]


def csv_response(rows: Iterable[ModelUsage]) -> HttpResponse:
    """All rows as a download that spreadsheets read."""
    columns = ["day", "bot", "model", *FIELDS, "currency"]
    headers = {"Content-Disposition": f'attachment; filename="usage-{timezone.localdate()}.csv"'}
    response = HttpResponse("\ufeff", content_type="text/csv; charset=utf-8", headers=headers)  # for Excel
    writer = csv.writer(response, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([exports.cell(getattr(row, column)) for column in columns] for row in rows)
    return response


def _fill(row: ModelUsage, used: dict[str, Any], price: LanguageModel | None) -> None:
    for name in ("answers", "fallbacks", "prompt_tokens", "completion_tokens"):
        setattr(row, name, used[name] or 0)
    if price is not None:
        row.prompt_price, row.completion_price = price.prompt_price, price.completion_price
        row.currency = price.currency
    row.cost = (row.prompt_tokens * row.prompt_price + row.completion_tokens * row.completion_price) / MILLION
    row.updated_at = timezone.now()


def _used_on(day: date) -> list[dict[str, Any]]:
    """Sums of the answers that were stored on that day, by bot and model."""
    asked = KeyTextTransform("model", "details")
    rows = Message.objects.filter(
        role=Message.Role.ASSISTANT,
        reply_to__isnull=False,
        received_at__gte=_midnight(day),
        received_at__lt=_midnight(day + timedelta(days=1)),
        details__has_key="model",
    )
    grouped = rows.order_by().annotate(asked=asked).values("conversation__bot__slug", "asked")
    sums = grouped.annotate(
        answers=Count("pk", filter=~Q(finish_reason="error")),
        fallbacks=Count("pk", filter=Q(details__has_key="fallback_from")),
        prompt=Sum("prompt_tokens"),
        completion=Sum("completion_tokens"),
    )
    return [
        {
            "bot": row["conversation__bot__slug"],
            "model": row["asked"],
            "answers": row["answers"],
            "fallbacks": row["fallbacks"],
            "prompt_tokens": row["prompt"],
            "completion_tokens": row["completion"],
        }
        for row in sums
    ]


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
