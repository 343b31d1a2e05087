"""What doctor says of alerts: whether somebody looks, whether somebody is told, what is open."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from monitoring.alerting.leading import NAME
from monitoring.alerts import open_alert
from monitoring.doctor import alerts
from monitoring.models import Leader
from tests.monitoring.alerting.made import channel

pytestmark = pytest.mark.django_db


def told() -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in alerts.check()]


def test_a_site_where_nobody_looks_and_nobody_is_told_is_warned() -> None:
    open_alert("machine.disk", "Only 2 % are free.", severity="critical")
    assert told() == [
        ("warning", "Nobody looks at the alert rules."),
        ("warning", "Nobody is told of alerts."),
        ("warning", "Open alert: Only 2 % are free."),
    ]


def test_a_site_where_all_is_well_says_who_looks() -> None:
    Leader.objects.create(name=NAME, owner="host:1:a", until=timezone.now() + timedelta(seconds=40))
    channel()
    assert told() == [("ok", "The alert rules are looked at by host:1:a."), ("ok", "1 channels are told of alerts.")]


def test_a_channel_that_does_not_work_is_told() -> None:
    channel(last_error="no such robot")
    assert ("warning", "The alert channel Operators does not work: no such robot") in told()
