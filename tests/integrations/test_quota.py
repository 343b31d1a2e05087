"""The month's quota: counted exactly, shown, and an alert in time."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from integrations import quota, quota_meter
from integrations.metering import streaming_pause_s
from integrations.models import PlatformCredential, QuotaUsage
from integrations.quota_meter import DatabaseMeter
from integrations.values import Ignored, Recalled
from monitoring import metrics
from monitoring.models import Alert
from tests import factories

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)


class Calendar:
    """What the meter takes for now."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    made = Calendar()
    monkeypatch.setattr("django.utils.timezone.now", made)
    return made


@pytest.fixture
def meter(calendar: Calendar, monkeypatch: pytest.MonkeyPatch) -> DatabaseMeter:
    """A meter that is flushed by the test alone, and is this process's."""
    monkeypatch.setattr(quota_meter, "FLUSH_S", 3_600.0)
    made = DatabaseMeter(calendar)
    monkeypatch.setattr(quota_meter, "meter", lambda: made)
    return made


@pytest.fixture
def robot(db: None) -> PlatformCredential:
    return factories.credential("dingtalk", name="Robot", monthly_api_quota=100, monthly_webhook_quota=10)


def spend(meter: DatabaseMeter, robot: PlatformCredential, calls: int, of: Any = "api") -> None:
    for _ in range(calls):
        meter.count(str(robot.pk), of)
    meter.flush()


def stored() -> list[tuple[date, str, int]]:
    return sorted(QuotaUsage.objects.values_list("month", "quota", "used"))


def test_calls_are_counted_exactly_when_many_threads_make_them(meter: DatabaseMeter, robot: PlatformCredential) -> None:
    def work() -> None:
        for _ in range(250):
            meter.count(str(robot.pk), "api")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.flush()
    meter.flush()

    assert stored() == [(NOVEMBER, "api", 1_000)]


def test_counts_of_several_processes_add_up(
    meter: DatabaseMeter, calendar: Calendar, robot: PlatformCredential
) -> None:
    spend(meter, robot, 3)
    spend(DatabaseMeter(calendar), robot, 4)
    spend(meter, robot, 2, "webhook")

    assert stored() == [(NOVEMBER, "api", 7), (NOVEMBER, "webhook", 2)]


def test_a_call_costs_no_query_and_a_flush_few(meter: DatabaseMeter, robot: PlatformCredential) -> None:
    spend(meter, robot, 1)
    with CaptureQueriesContext(
        connection,
    ) as counting:
        for _ in range(10):
            meter.count(str(robot.pk), "api")
    with CaptureQueriesContext(connection) as flushing:
        meter.flush()
    with CaptureQueriesContext(connection) as idle:
        meter.flush()

    assert (len(counting), len(flushing), len(idle)) == (0, 4, 0)


def test_counts_are_kept_when_the_database_is_away(
    meter: DatabaseMeter, robot: PlatformCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(quota_meter, "_add", away)
        with pytest.raises(DatabaseError):
            spend(meter, robot, 3)
    spend(meter, robot, 2)

    assert stored() == [(NOVEMBER, "api", 5)]


def test_a_deleted_credential_stops_nobody(meter: DatabaseMeter, robot: PlatformCredential) -> None:
    gone = factories.credential("dingtalk")
    meter.count(str(gone.pk), "api")
    PlatformCredential.objects.filter(pk=gone.pk).delete()
    spend(meter, robot, 1)

    assert stored() == [(NOVEMBER, "api", 1)]
    assert meter.share(str(gone.pk), "api") == 0.0


def test_the_month_ends_at_midnight_in_china(
    meter: DatabaseMeter, calendar: Calendar, robot: PlatformCredential
) -> None:
    calendar.now = datetime(2026, 11, 30, 15, 59, 59, tzinfo=UTC)
    spend(meter, robot, 96)
    assert meter.share(str(robot.pk), "api") == 0.96
    calendar.now = datetime(2026, 11, 30, 16, 0, tzinfo=UTC)

    assert meter.share(str(robot.pk), "api") == 0.0
    spend(meter, robot, 1)
    assert stored() == [(NOVEMBER, "api", 96), (DECEMBER, "api", 1)]


@pytest.mark.parametrize(("used", "pause_s"), [(79, 0.0), (80, 5.0), (95, float("inf"))])
def test_streaming_is_reduced_by_what_was_used(
    meter: DatabaseMeter, robot: PlatformCredential, used: int, pause_s: float
) -> None:
    spend(meter, robot, used)

    assert streaming_pause_s(meter.share(str(robot.pk), "api")) == pause_s
    assert meter.share(str(robot.pk), "webhook") == 0.0


def test_no_quota_is_watched_where_none_is_set(meter: DatabaseMeter) -> None:
    free = factories.credential("feishu")
    spend(meter, free, 5_000)

    assert meter.share(str(free.pk), "api") == 0.0
    assert not Alert.objects.exists()


def test_what_the_platform_says_stands_until_next_month(
    meter: DatabaseMeter, calendar: Calendar, robot: PlatformCredential
) -> None:
    for _ in range(3):
        meter.use_up(str(robot.pk), "api")
    assert meter.share(str(robot.pk), "api") == 1.0
    assert QuotaUsage.objects.get().used_up_at == calendar.now
    assert [alert.severity for alert in Alert.objects.all()] == ["critical"]

    calendar.now = datetime(2026, 12, 2, tzinfo=UTC)
    assert meter.share(str(robot.pk), "api") == 0.0


def test_one_alert_opens_at_80_percent_and_closes_with_the_month(
    meter: DatabaseMeter, calendar: Calendar, robot: PlatformCredential
) -> None:
    spend(meter, robot, 79)
    assert not Alert.objects.exists()
    spend(meter, robot, 1)
    spend(meter, robot, 10)
    spend(meter, robot, 9, "webhook")
    alert = Alert.objects.get()
    assert (alert.rule, alert.subject, alert.severity) == ("platform.quota", str(robot.pk), "warning")
    assert alert.summary == (
        "Robot (DingTalk): the monthly quota is nearly used up (80 of 100 api calls)."
        " Streaming is reduced. Raise the plan."
    )

    calendar.now = datetime(2026, 12, 2, tzinfo=UTC)
    quota.review()
    assert not Alert.objects.open().exists()
    spend(meter, robot, 80)
    assert Alert.objects.open().count() == 1


def test_alert_becomes_critical_when_the_quota_is_used_up(meter: DatabaseMeter, robot: PlatformCredential) -> None:
    spend(meter, robot, 80)
    spend(meter, robot, 19)
    meter.use_up(str(robot.pk), "webhook")
    meter.use_up(str(robot.pk), "webhook")

    assert list(Alert.objects.values_list("severity", flat=True)) == ["critical", "warning"]
    [alert] = Alert.objects.open()
    assert "the monthly quota is used up, says the platform (0 of " in alert.summary
    assert "People are not answered" in alert.summary


def test_what_dingtalk_delivers_counts_and_its_notice_ends_the_month(
    meter: DatabaseMeter, robot: PlatformCredential
) -> None:
    quota_meter.received(robot, Recalled("m1"))
    quota_meter.received(factories.credential("feishu"), Recalled("m2"))
    quota_meter.received(robot, Ignored("over_quota"))
    meter.flush()

    assert stored() == [(NOVEMBER, "webhook", 2)]
    assert meter.share(str(robot.pk), "webhook") == 1.0


def test_the_gauge_tells_what_each_app_used(meter: DatabaseMeter, robot: PlatformCredential) -> None:
    spend(meter, robot, 7)
    spend(meter, robot, 2, "webhook")
    labels = {"platform": "dingtalk", "credential": robot.app_id}

    assert metrics.registry().get_sample_value("clawdbot_platform_quota_used", labels) == 9.0


# -- the admin ------------------------------------------------------------------------------------------------------


def page(client: Client, robot: PlatformCredential, **form: str) -> str:
    path = f"/admin/integrations/platformcredential/{robot.pk}/change/"
    response = client.post(path, form, follow=True) if form else client.get(path)
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_page_of_a_credential_and_the_list_show_the_meter(
    meter: DatabaseMeter, robot: PlatformCredential, admin_client: Client
) -> None:
    robot.monthly_webhook_quota = 0
    robot.monthly_api_quota = 5_000
    robot.save()
    spend(meter, robot, 1_234)

    listed = admin_client.get("/admin/integrations/platformcredential/").content.decode()

    for shown in (page(admin_client, robot), listed):
        assert '<progress value="1234" max="5000"></progress> 1,234 of 5,000 API calls (25%)' in shown
        assert "0 webhook and Stream calls, no limit set" in shown


def test_a_larger_plan_ends_what_the_platform_said(
    meter: DatabaseMeter, robot: PlatformCredential, admin_client: Client
) -> None:
    meter.use_up(str(robot.pk), "api")
    assert "the platform says it is used up" in page(admin_client, robot)
    fields = {"name": "Robot", "platform": "dingtalk", "app_id": robot.app_id, "monthly_webhook_quota": "10"}

    shown = page(admin_client, robot, **fields, monthly_api_quota="200000")

    assert "was changed successfully" in shown
    robot.refresh_from_db()
    assert robot.monthly_api_quota == 200_000
    assert meter.share(str(robot.pk), "api") == 0.0
    assert not Alert.objects.open().exists()
