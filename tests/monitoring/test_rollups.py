"""Minutes of several processes: written again and again, added up, merged, kept while the database is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError

from monitoring import metrics
from monitoring.models import Heartbeat, Rollup
from monitoring.rollups import collecting, keeping, tidying
from monitoring.rollups.history import History, quantile
from monitoring.rollups.keeping import Keeper

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 4, 12, 30, 5, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def written() -> Any:
    return Rollup.objects.get().sums


def test_what_is_counted_stands_in_its_minute(time: Time) -> None:
    keeper = Keeper("site", time)
    metrics.http_request("webhooks/feishu/<key>", "POST", 200, 0.01)
    metrics.http_request("api/v1/bots/", "GET", 503, 0.01)
    metrics.webhook("feishu", "accepted", 0.3)
    metrics.message("feishu", "rollup-bot", "delivered")
    for _ in range(2):  # the same minute is written twice, and counts once
        keeper.look()
        keeper.flush()

    assert {name: written()[name] for name in ("http|webhooks|2xx", "http|api|5xx", "messages|delivered")} == {
        "http|webhooks|2xx": 1,
        "http|api|5xx": 1,
        "messages|delivered": 1,
    }
    assert ("webhook|le=0.25" in written(), written()["webhook|le=0.5"], written()["webhook|count"]) == (False, 1, 1)
    time.now += timedelta(minutes=1)
    metrics.http_request("api/v1/bots/", "GET", 200, 0.01)
    keeper.look()
    keeper.flush()
    assert [row.sums.get("http|api|2xx") for row in Rollup.objects.order_by("minute")] == [None, 1]


def test_a_heartbeat_tells_what_the_process_does(time: Time) -> None:
    keeper = Keeper("worker", time)
    keeper.facts = {"queues": ["inference"]}
    keeper.look()
    keeper.flush()
    time.now += timedelta(seconds=10)
    keeper.flush()

    row = Heartbeat.objects.get()
    assert (row.role, row.facts["queues"], row.seen_at - row.started_at) == ("worker", ["inference"], timedelta(0, 10))
    keeper.farewell()
    assert not Heartbeat.objects.exists()


def test_minutes_wait_while_the_database_is_away(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper("site", time)

    def away(*args: Any, **more: Any) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Rollup.objects, "bulk_create", away)
        for _ in range(3):
            metrics.message("feishu", "rollup-bot", "failed")
            keeper.look()
            with pytest.raises(OperationalError):
                keeper.flush()
            time.now += timedelta(minutes=1)

    keeper.look()
    keeper.flush()
    assert [row.sums.get("messages|failed") for row in Rollup.objects.order_by("minute")] == [1, 1, 1, None]


def row(process: str, minutes_ago: int, **sums: float) -> None:
    minute = NOW.replace(second=0) - timedelta(minutes=minutes_ago)
    levels = {"queue_depth|inference": [4.0, 2, 3.0]}
    Rollup.objects.create(minute=minute, process=process, sums=sums, levels=levels)


def test_processes_are_added_up_before_and_after_they_are_merged() -> None:
    for ago in (5, 6):
        row("a", ago, messages=1.0)
        row("b", ago, messages=2.0)
    row("a", 1, messages=4.0)

    def seen() -> tuple[float, dict[str, float]]:
        history = History()
        history.refresh(NOW)
        return history.sum("messages", 10), history.level("queue_depth", 10)

    before = seen()
    tidying.tidy(NOW)
    row("late", 5, messages=10.0)
    tidying.tidy(NOW)
    tidying.tidy(NOW)

    assert before == (10.0, {"inference": 2.0})
    assert seen() == (20.0, {"inference": 2.0})
    assert sorted(Rollup.objects.values_list("process", flat=True)) == ["", "", "a"]


def test_old_minutes_go() -> None:
    row("a", 9 * 24 * 60)
    tidying.tidy(NOW)
    tidying.tidy(NOW)
    assert not Rollup.objects.exists()


def test_a_history_that_is_read_again_sees_what_came() -> None:
    history = History()
    row("a", 2, messages=1.0)
    history.refresh(NOW)
    row("b", 2, messages=1.0)
    history.refresh(NOW + timedelta(seconds=15))
    assert history.sum("messages", 5) == 2.0
    assert history.sum("messages", 2) == 0.0


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({0.25: 50, 0.5: 100, float("inf"): 100}, 0.75, 0.375),
        ({0.25: 0, 0.5: 0, float("inf"): 10}, 0.99, 0.5),
        ({float("inf"): 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_percentiles_are_those_of_prometheus(buckets: Any, share: float, expected: Any) -> None:
    assert quantile(buckets, share) == expected


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("webhooks/dingtalk/<key>", "webhooks"),
        ("v1/chat/completions", "api"),
        ("admin/", "admin"),
        ("livez", "probes"),
        ("other", "other"),
    ],
)
def test_routes_become_few_classes(route: str, expected: str) -> None:
    assert collecting.route_class(route) == expected


def test_nothing_is_kept_where_settings_say_so(settings: Any) -> None:
    from monitoring import watching

    watching.start("site")
    assert (settings.WATCH_ITSELF, keeping.keeper()) == (False, None)
