from __future__ import annotations

import re
from html import unescape

import pytest
from django.urls import reverse
from django.utils import timezone

from bots.admin import timings
from bots.admin.timings import in_words
from bots.models import DeliveryStep, Message
from monitoring.tracing import ids
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


def test_trying_again_is_refused_to_who_may_only_look(browser_of):
    failed = factories.web_question(status="failed")

    act(browser_of("auditor"), "retry", failed)

    assert statuses() == ["failed"]


def page_of(browser, message: Message) -> str:
    """What its page says, in one line."""
    text = browser.get(reverse("admin:bots_message_change", args=[message.pk])).content.decode()
    return " ".join(unescape(text).split())


def test_error_and_times_are_shown(browser):
    failed = factories.web_question(status="failed", error="no power", timings={"queue": 12, "total": 83_000})

    text = page_of(browser, failed)

    assert all(part in text for part in ("no power", "12 ms", "1 min 23 s", "Try again"))


def test_list_tells_each_figure_of_the_bar_in_words(browser):
    timings = {"queue": 100, "first_token": 200, "generate": 1200, "deliver": 300, "total": 2000}
    factories.web_question(status="delivered", timings=timings)

    text = browser.get(LIST).content.decode()

    assert 'aria-label="waited 100 ms, first token 200 ms, written 1.0 s, sent 300 ms, otherwise 400 ms"' in text
    assert "<span>2.0 s</span>" in text


def test_a_bar_is_as_long_as_the_time_it_shows():
    drawn = timings.bar({"queue": 500, "generate": 500, "total": 1000})

    assert re.findall(r'class="([\w-]+)" x="([\d.]+)" y="0" width="([\d.]+)"', drawn) == [
        ("cb-times--queue", "0.00", "50.00"),
        ("cb-times--generate", "50.00", "50.00"),
    ]


def failed_with(reply: dict[str, object] | None, status: str = "failed") -> tuple[Message, Message | None]:
    question = factories.web_question(status=status, error="cut off")
    if reply is None:
        return question, None
    given = {"conversation": question.conversation, "role": "assistant", "reply_to": question, "status": status}
    return question, Message.objects.create(**given, platform="web", text="The stored words", **reply)


@pytest.mark.parametrize(
    ("reply", "status", "plan", "may_show_twice"),
    [
        (None, "failed", "Trying again asks the model again.", False),
        ({"answered_at": timezone.now()}, "failed", "sends the stored answer again. The model is not asked.", False),
        ({"answered_at": timezone.now()}, "unconfirmed", "sends the stored answer again.", True),
        ({"answered_at": None}, "failed", "Trying again asks the model again.", False),
    ],
)
def test_page_says_what_trying_again_would_do(browser, reply, status, plan, may_show_twice):
    question, _reply = failed_with(reply, status)

    text = page_of(browser, question)

    assert plan in text
    assert ("it may show twice" in text) == may_show_twice


def test_page_of_a_question_with_an_apology_says_that_it_stays(browser):
    question, reply = failed_with({"answered_at": timezone.now(), "finish_reason": "error"})

    assert "The apology that was sent stays in the chat." in page_of(browser, question)
    assert "No reason was stored." not in page_of(browser, reply)


def test_page_shows_the_answer_the_last_trouble_and_each_step_of_its_delivery(browser):
    question, reply = failed_with({"answered_at": timezone.now()})
    Message.objects.filter(pk=question.pk).update(details={"last_trouble": "the line broke"})
    now = timezone.now()
    known = {"message": reply, "key": "k", "fence": 1, "first_tried_at": now}
    DeliveryStep.objects.create(**known, name="card", state="done", remote_id="om_remote", finished_at=now)
    DeliveryStep.objects.create(**known, name="text", state="refused", reason="230013: no right")

    shown = page_of(browser, question)

    parts = ("The stored words", "the line broke", "om_remote", "230013: no right", "confirmed", "refused")
    assert [part for part in parts if part not in shown] == []
    assert "om_remote" in page_of(browser, reply)


def test_page_leads_to_the_trace_of_the_question_where_traces_are_on(browser, settings):
    question, reply = failed_with({"answered_at": timezone.now()})
    own = ids.trace_id(question.pk)
    assert own not in page_of(browser, question)

    settings.TRACES, settings.TRACE_URL = {"endpoint": "x"}, "https://jaeger.example.com/trace/{trace_id}"
    assert f'href="https://jaeger.example.com/trace/{own}"' in page_of(browser, question)
    assert own in page_of(browser, reply)
    joined = "0af7651916cd43dd8448eb211c80319c"
    Message.objects.filter(pk=question.pk).update(details={"traceparent": f"00-{joined}-b7ad6b7169203331-01"})
    assert f"/trace/{joined}" in page_of(browser, question)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "–"), (0, "0 ms"), (999, "999 ms"), (1400, "1.4 s"), (125_000, "2 min 5 s"), (3_723_000, "1:02:03")],
)
def test_durations_read_well(milliseconds, text):
    assert in_words(milliseconds) == text
