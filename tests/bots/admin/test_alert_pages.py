"""Alerts in the admin and over REST: acknowledge, silence, set rules, channels with their test button."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.utils import timezone

from clawdbot_site.security import alerting
from monitoring.alerting import notices
from monitoring.alerting.senders import Message, SendingFailed
from monitoring.alerts import open_alert
from monitoring.models import Alert, AlertChannel, AlertNotice, AlertRule, AuditLog, Silence
from tests import factories

ALERTS, CHANNELS = "/admin/monitoring/alert/", "/admin/monitoring/alertchannel/"
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
MORE = {"least_severity": "warning", "interval_s": "60", "remind_after_h": "24", "is_enabled": "on"}


def audited() -> list[str]:
    rows = (
        AuditLog.objects.exclude(action="auth.signed_in")
        .exclude(action__endswith="read")
        .exclude(action__endswith="listed")
        .order_by("id")
    )
    return list(rows.values_list("action", flat=True))


class Hook:
    """Takes webhooks, and checks them as a Standard Webhooks library does."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.status = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + content
                mark = base64.b64encode(hmac.digest(b"k" * 32, signed, hashlib.sha256)).decode()
                is_genuine = self.headers["webhook-signature"] == f"v1,{mark}"
                if is_genuine:
                    hook.taken.append(json.loads(content))
                self.send_response(hook.status if is_genuine else 401)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook(settings: Any) -> Iterator[Hook]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    made = Hook()
    yield made
    made.close()


def test_an_open_alert_is_acknowledged_on_its_page(browser: Any) -> None:
    alert = open_alert("machine.cpu", "busy", subject="one")
    assert alert
    assert "nobody looks after it yet" in browser.get(f"{ALERTS}{alert.pk}/change/").content.decode()

    page = browser.post(f"{ALERTS}{alert.pk}/acknowledge/", follow=True).content.decode()

    alert.refresh_from_db()
    assert alert.acknowledged_by in page
    assert audited() == ["alert.acknowledged"]
    assert "/acknowledge/" not in browser.get(f"{ALERTS}{alert.pk}/change/").content.decode()


def test_several_are_acknowledged_in_the_list_and_closed_ones_left_alone(browser: Any) -> None:
    rows = [open_alert("machine.cpu", "busy", subject=str(number)) for number in range(3)]
    Alert.objects.filter(subject="2").update(closed_at=timezone.now())
    chosen = [row.pk for row in rows if row]

    page = browser.post(ALERTS, {"action": "acknowledge", "_selected_action": chosen}, follow=True).content.decode()

    assert "2 alerts are acknowledged." in page
    assert Alert.objects.filter(acknowledged_at=None).get().subject == "2"


def test_a_silence_is_made_from_the_alerts_page(browser: Any) -> None:
    alert = open_alert("machine.cpu", "busy", subject="one")
    assert alert
    address = "/admin/monitoring/silence/add/?rule=machine.cpu&subject=one"
    assert address.replace("&", "&amp;") in browser.get(f"{ALERTS}{alert.pk}/change/").content.decode()
    until = timezone.localtime(timezone.now() + timedelta(hours=2))
    given = {"rule": "machine.cpu", "subject": "one", "until_0": f"{until:%Y-%m-%d}", "until_1": f"{until:%H:%M:%S}"}

    refused = browser.post(address, {**given, "until_0": "2020-01-01", "reason": "known"}).content.decode()
    browser.post(address, {**given, "reason": "known"})

    assert "still to come" in refused
    assert Silence.objects.get().covers("machine.cpu", "one")
    assert "It is silenced" in browser.get(f"{ALERTS}{alert.pk}/change/").content.decode()
    assert audited() == ["silence.created"]


def test_a_rule_is_set_in_the_admin(browser: Any) -> None:
    page = browser.get("/admin/monitoring/alertrule/").content.decode()
    assert ("Processors are busy" in page, "70 %" in page) == (True, True)

    browser.post("/admin/monitoring/alertrule/machine.cpu/change/", {"threshold": "90", "is_enabled": "on"})

    assert AlertRule.objects.get(name="machine.cpu").threshold == 90
    assert "90 %" in browser.get("/admin/monitoring/alertrule/").content.decode()
    assert audited() == ["alertrule.changed"]


def test_a_webhook_is_tested_and_hears_of_alerts_signed(browser: Any, hook: Hook) -> None:
    given = {"name": "Pager", "kind": "webhook", "url": hook.url, "secret": SECRET, **MORE}
    browser.post(f"{CHANNELS}add/", given)
    row = AlertChannel.objects.get()
    page = browser.get(f"{CHANNELS}{row.pk}/change/").content.decode()
    assert (hook.url in page, SECRET in page, SECRET.encode() in bytes(row.sealed)) == (False, False, False)

    said = browser.post(f"{CHANNELS}{row.pk}/test/", follow=True).content.decode()

    assert "The test message was sent." in said
    assert [one["type"] for one in hook.taken] == ["alerts.test"]
    assert audited() == ["alertchannel.created", "alertchannel.tested"]


def test_what_is_stored_stays_when_left_blank_and_a_new_address_wants_its_secret(browser: Any, hook: Hook) -> None:
    given = {"name": "Pager", "kind": "webhook", "url": hook.url, "secret": SECRET, **MORE}
    browser.post(f"{CHANNELS}add/", given)
    row = AlertChannel.objects.get()
    address = f"{CHANNELS}{row.pk}/change/"

    browser.post(address, {**given, "name": "Renamed", "url": "", "secret": ""})
    moved = browser.post(address, {**given, "url": "https://elsewhere.example/", "secret": ""}).content.decode()

    row.refresh_from_db()
    assert (row.name, row.place()) == ("Renamed", (hook.url, SECRET))
    assert "Give it again" in moved


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "webhook", "url": "ftp://example.com", "secret": ""}, "begins|starts"),
        ({"kind": "webhook", "url": "https://example.com/", "secret": "whsec_short"}, "at least 24 bytes"),
        ({"kind": "webhook", "url": "http://169.254.169.254/", "secret": ""}, "metadata"),
        ({"kind": "email", "emails": "nobody"}, "valid email"),
        ({"kind": "robot", "robot": ""}, "Choose a group robot"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_entered(browser: Any, given: dict[str, str], words: str) -> None:
    page = browser.post(f"{CHANNELS}add/", {"name": "Pager", **MORE, **given}).content.decode()

    assert any(word in page for word in words.split("|")), page
    assert not AlertChannel.objects.exists()


def test_a_test_that_fails_says_why(browser: Any, hook: Hook) -> None:
    browser.post(f"{CHANNELS}add/", {"name": "Pager", "kind": "webhook", "url": hook.url, "secret": SECRET, **MORE})
    hook.status = 500
    row = AlertChannel.objects.get()

    said = browser.post(f"{CHANNELS}{row.pk}/test/", follow=True).content.decode()

    assert said.count("The webhook answered HTTP 500.") == 2  # in the message, and as its last error
    assert "The webhook answered HTTP 500." in browser.get("/admin/monitoring/alertnotice/").content.decode()
    assert AlertNotice.objects.get().next_attempt_at is None


def test_a_webhook_to_a_private_address_is_not_called(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = []
    with pytest.raises(SendingFailed, match="OUTBOUND_ALLOWED_NETWORKS"):
        alerting._prepare_webhook("http://10.0.0.1/", "")(Message("msg_1", "t", "t"))


def test_a_channel_by_a_group_robot_says_when_its_robot_is_gone(browser: Any) -> None:
    robot = factories.group_robot(name="Operations")
    browser.post(f"{CHANNELS}add/", {"name": "Chat", "kind": "robot", "robot": str(robot.pk), **MORE})
    row = AlertChannel.objects.get()
    assert "Operations" in browser.get(CHANNELS).content.decode()
    robot.delete()

    assert "gone or switched off" in notices.test(row, "t", "t").error


def test_the_dashboard_shows_alerts_and_curves(browser: Any) -> None:
    open_alert("machine.disk", "Only 2 % are free.", severity="critical")
    factories.web_question()
    minute = timezone.now().replace(second=0, microsecond=0)
    from bots.admin import curves
    from monitoring.models import Rollup

    for ago in range(10):
        sums = {"http|api|2xx": 120.0, "http|api|5xx": 6.0}
        Rollup.objects.create(minute=minute - timedelta(minutes=ago), sums=sums, levels={"cpu|one": [0.4, 1, 0.4]})
    curves._history.minutes.clear()
    curves._history.now -= timedelta(days=1) if curves._history.now.year > 1 else timedelta(0)

    page = browser.get("/admin/").content.decode()

    assert "Only 2 % are free." in page
    assert ("<strong>126</strong>" in page, "<strong>40 %</strong>" in page) == (True, True)
    curves._history.minutes.clear()
