from __future__ import annotations

import pytest
from django.urls import reverse

from bots.admin.messages import in_words
from bots.models import Message
from tests import factories

LIST = "/admin/bots/message/"


def act(browser, action, *rows):
    return browser.post(LIST, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)


def statuses() -> list[str]:
    return list(Message.objects.order_by("received_at", "id").values_list("status", flat=True))


def test_failed_ones_are_tried_again(browser):
    failed, delivered = (factories.web_question(status=status) for status in ("failed", "delivered"))

    response = act(browser, "retry", failed, delivered)

    assert statuses() == ["received", "delivered"]
    assert "1 message is tried again." in response.content.decode()


def test_unconfirmed_ones_are_only_sent_again_when_asked(browser):
    unconfirmed = factories.web_question(status="unconfirmed")

    act(browser, "retry", unconfirmed)
    assert statuses() == ["unconfirmed"]

    act(browser, "send_again", unconfirmed)
    assert statuses() == ["received"]


def test_message_is_tried_again_from_its_own_page(browser):
    failed = factories.web_question(status="failed", error="no power")

    browser.post(reverse("admin:bots_message_retry", args=[failed.pk]))

    assert statuses() == ["received"]


def test_trying_again_is_refused_to_who_may_only_look(browser_of):
    failed = factories.web_question(status="failed")
    auditor = browser_of("auditor")

    act(auditor, "retry", failed)

    assert auditor.post(reverse("admin:bots_message_retry", args=[failed.pk])).status_code == 403
    assert statuses() == ["failed"]


def test_error_and_times_are_shown(browser):
    failed = factories.web_question(status="failed", error="no power", timings={"queue": 12, "total": 83_000})

    text = browser.get(reverse("admin:bots_message_change", args=[failed.pk])).content.decode()

    assert all(part in text for part in ("no power", "12 ms", "1 min 23 s", "Try again"))


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "–"), (0, "0 ms"), (999, "999 ms"), (1400, "1.4 s"), (125_000, "2 min 5 s"), (3_723_000, "1:02:03")],
)
def test_durations_read_well(milliseconds, text):
    assert in_words(milliseconds) == text
