"""Who is told of what, and when: grouping, intervals, silences, reminders, retries; mail on a real socket."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from monitoring.alerting import handling, notices, senders
from monitoring.alerting.senders import SendingFailed
from monitoring.alerts import close_alert, open_alert
from monitoring.models import Alert, AlertNotice, AuditLog, Silence
from tests.monitoring.alerting.made import Heard, channel

pytestmark = pytest.mark.django_db(transaction=True)  # notices are sent by threads


def told(heard: Heard, seconds: float = 0) -> list[str]:
    """The new titles of another look, so much later."""
    before = len(heard.messages)
    notices.tell(timezone.now() + timedelta(seconds=seconds))
    return heard.titles[before:]


def test_alerts_of_one_group_are_told_together_and_others_apart(heard: Heard) -> None:
    channel()
    open_alert("machine.cpu", "busy", subject="one")
    open_alert("machine.disk", "full", subject="one", severity="critical")
    open_alert("traffic.surge", "many")

    assert sorted(told(heard)) == ["[critical] Machine", "[warning] Traffic"]
    machine = next(message for message in heard.messages if "Machine" in message.title)
    assert ("busy" in machine.text, "full" in machine.text) == (True, True)
    assert [one["rule"] for one in machine.payload["data"]["alerts"]] == ["machine.cpu", "machine.disk"]
    assert told(heard) == []


def test_a_group_is_told_once_in_its_interval(heard: Heard) -> None:
    channel(interval_s=60)
    open_alert("machine.cpu", "busy")
    told(heard)
    close_alert("machine.cpu")
    open_alert("machine.disk", "full")

    assert told(heard, 30) == []
    assert told(heard, 61) == ["[warning] Machine"]
    assert [line for line in heard.messages[-1].text.splitlines() if "**" in line][-1].startswith("**Resolved** busy")


def test_the_end_of_an_alert_is_told_to_who_heard_of_it(heard: Heard) -> None:
    channel(least_severity="critical")
    open_alert("machine.cpu", "busy")
    open_alert("machine.disk", "full", severity="critical")
    assert told(heard) == ["[critical] Machine"]
    close_alert("machine.cpu")
    close_alert("machine.disk")

    assert told(heard, 61) == ["Resolved: Machine"]
    assert "busy" not in heard.messages[-1].text


def test_what_is_silenced_is_told_when_the_silence_ends(heard: Heard) -> None:
    channel()
    until = timezone.now() + timedelta(hours=1)
    Silence.objects.create(rule="machine.cpu", subject="one", until=until, reason="known")
    open_alert("machine.cpu", "busy", subject="one")
    open_alert("machine.cpu", "busy too", subject="two")

    told(heard)
    assert ("busy too" in heard.messages[0].text, "busy (" in heard.messages[0].text) == (True, False)
    assert told(heard, 3700) == ["[warning] Machine"]


def test_nobody_is_reminded_of_what_somebody_looks_after(heard: Heard) -> None:
    channel(remind_after_h=1)
    open_alert("machine.cpu", "busy")
    open_alert("traffic.surge", "many")
    told(heard)
    assert handling.acknowledge(Alert.objects.get(rule="machine.cpu"), "olga")

    assert told(heard, 3700) == ["[warning] Traffic"]
    assert not handling.acknowledge(Alert.objects.get(rule="machine.cpu"), "otto")
    assert [entry.action for entry in AuditLog.objects.all()] == ["alert.acknowledged"]


def test_what_is_not_taken_is_sent_again_and_its_channel_says_why(heard: Heard) -> None:
    row = channel()
    heard.problem = SendingFailed("the robot is gone")
    open_alert("machine.cpu", "busy")

    told(heard)
    row.refresh_from_db()
    notice = AlertNotice.objects.get()
    assert (row.last_error, notice.error, notice.attempts, notice.sent_at) == (*["the robot is gone"] * 2, 1, None)

    heard.problem = None
    assert told(heard, 5) == []
    assert told(heard, 16) == ["[warning] Machine"]
    row.refresh_from_db()
    assert row.last_error == ""


def test_what_is_refused_for_a_day_is_given_up(heard: Heard) -> None:
    channel(remind_after_h=0)
    heard.problem = SendingFailed("no", permanent=True)
    open_alert("machine.cpu", "busy")
    told(heard)
    told(heard, 90_000)

    assert AlertNotice.objects.get().next_attempt_at is None


def test_a_channel_that_cannot_be_read_says_so(heard: Heard) -> None:
    row = channel()
    row.sealed = b"garbage"
    row.save()
    open_alert("machine.cpu", "busy")
    told(heard)

    assert "cannot be read" in AlertNotice.objects.get().error


# -- e-mail --


class Post(socketserver.ThreadingTCPServer):
    """A mail server that takes everything."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", 0), _Conversation)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Conversation(socketserver.StreamRequestHandler):
    server: Post

    def handle(self) -> None:
        self.wfile.write(b"220 post\r\n")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append(b"".join(lines).decode())
            if line == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def post() -> Iterator[Post]:
    server = Post()
    yield server
    server.shutdown()
    server.server_close()


def test_an_alert_comes_by_mail(post: Post, settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1"
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = post.server_address
    row = channel(kind="email")
    row.put("olga@example.com, otto@example.com", "")
    row.save()
    open_alert("machine.disk", "full", severity="critical")

    notices.tell(timezone.now())

    (text,) = post.mails
    assert "Subject: [critical] Machine" in text
    assert "To: olga@example.com, otto@example.com" in text
    assert "full" in text
    assert AlertNotice.objects.get().sent_at is not None


def test_a_mail_server_that_is_away_is_told_in_words(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:9"
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    row = channel(kind="email")
    row.put("olga@example.com", "")
    row.save()

    assert "The mail server did not take it" in notices.test(row, "Test", "text").error


def test_mail_needs_a_server_and_addresses(settings: Any) -> None:
    kind = senders.kind("email")
    assert kind
    settings.EMAIL_URL = "smtp://127.0.0.1"
    for wrong in ("", "nobody", "a@example.com, nobody"):
        with pytest.raises(ValidationError):
            kind.check(wrong, "")
    kind.check("a@example.com; b@example.com", "")
