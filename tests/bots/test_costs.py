"""What bots and models used and cost: counted from what was answered, and shown to who may see it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from bots import costs
from bots.models import Message, ModelUsage
from tests import factories

pytestmark = pytest.mark.django_db


def answered(bot, model="gpt", prompt=1000, completion=500, days_ago=0, **details) -> Message:
    question = factories.web_question(bot, status="delivered")
    return Message.objects.create(
        conversation=question.conversation,
        role="assistant",
        reply_to=question,
        status="delivered",
        received_at=timezone.now() - timedelta(days=days_ago),
        prompt_tokens=prompt,
        completion_tokens=completion,
        finish_reason="stop",
        details={"model": model, **details},
    )


@pytest.fixture
def priced():
    return factories.model(name="gpt", prompt_price=2, completion_price="8.5", currency="USD")


def test_tokens_and_cost_are_summed_by_day_bot_and_model(priced):
    one, two = factories.bot(slug="one"), factories.bot(slug="two")
    answered(one)
    answered(one, prompt=500_000, completion=0, fallback_from={"model": "x", "reason": "y"})
    answered(one, model="free")
    answered(two)

    costs.count_recent()
    costs.count_recent()

    rows = ModelUsage.objects.filter(day=timezone.localdate()).order_by("bot", "model")
    assert [(r.bot, r.model, r.answers, r.fallbacks, r.prompt_tokens, r.completion_tokens) for r in rows] == [
        ("one", "free", 1, 0, 1000, 500),
        ("one", "gpt", 2, 1, 501_000, 500),
        ("two", "gpt", 1, 0, 1000, 500),
    ]
    assert [row.cost for row in rows] == [0, Decimal("1.006250"), Decimal("0.006250")]


def test_a_new_price_counts_for_today_and_not_for_days_past(priced):
    bot = factories.bot(slug="one")
    answered(bot)
    answered(bot, days_ago=1)
    costs.count_recent()

    priced.prompt_price = 1000
    priced.save()
    costs.count_recent()

    today, yesterday = ModelUsage.objects.order_by("-day")
    assert (today.cost, yesterday.cost) == (Decimal("1.004250"), Decimal("0.006250"))


def test_what_was_spent_outlives_bot_and_messages(priced):
    bot = factories.bot(slug="one")
    answered(bot)
    costs.count_recent()

    bot.delete()
    costs.count_recent()

    assert [(row.bot, row.answers) for row in ModelUsage.objects.all()] == [("one", 1)]


def test_sums_are_apart_for_each_currency():
    for name, currency in (("a", "CNY"), ("b", "USD"), ("c", "USD")):
        ModelUsage.objects.create(day="2026-11-01", bot="one", model=name, answers=2, cost="1.5", currency=currency)

    totals = costs.totals(ModelUsage.objects.all())

    assert [(total.currency, total.answers, total.cost) for total in totals] == [
        ("CNY", 2, Decimal("1.5")),
        ("USD", 4, Decimal("3")),
    ]


def test_the_table_for_spreadsheets_runs_no_formula():
    ModelUsage.objects.create(day="2026-11-01", bot="=cmd", model="m", answers=1)

    lines = costs.csv_response(ModelUsage.objects.all()).content.decode().splitlines()

    assert lines[0].startswith("\ufeffday,bot,model,answers")
    assert lines[1].startswith("2026-11-01,'=cmd,m,1,0,0,0,")
