from __future__ import annotations

import pytest

from monitoring.alerts import close_alert, open_alert
from monitoring.models import Alert

pytestmark = pytest.mark.django_db


def test_an_alert_is_open_once_when_its_rule_fires_again():
    first = open_alert("disk", "full", subject="/var", severity="critical", details={"free_bytes": 1})

    assert first
    assert open_alert("disk", "fuller", subject="/var") is None
    assert open_alert("disk", "full", subject="/home")
    assert Alert.objects.open().count() == 2


def test_an_alert_opens_anew_when_the_last_one_was_closed():
    open_alert("disk", "full")

    assert close_alert("disk")
    assert not close_alert("disk")
    assert open_alert("disk", "full")
    assert [alert.closed_at is None for alert in Alert.objects.all()] == [True, False]
