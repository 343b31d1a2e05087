from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils import timezone

from bots.admin import acting, dead_letters
from bots.models import Message
from monitoring.models import AuditLog
from tests import factories

LIST = "/admin/bots/deadletter/"


def failed(text: str = "Lost", **values: Any) -> Message:
    return factories.web_question(text=text, **{"status": "failed", "error": "no power", **values})


def discarded(text: str = "Put away", **values: Any) -> Message:
    return failed(text, discarded_at=timezone.now(), **values)


def listed(browser: Any, **query: str) -> list[str]:
    """The texts of the rows."""
    return [row.text for row in browser.get(LIST, query).context["cl"].result_list]


def press(browser: Any, name: str, *rows: Message, **more: str) -> Any:
    """A row's button, or the answer to the question it asks."""
    return browser.post(f"{LIST}{name}/", {"ids": [row.pk for row in rows], **more}, follow=True)


def choose(browser: Any, action: str, *rows: Message, **more: str) -> Any:
    """The same for a selection."""
    given = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return browser.post(LIST, given, follow=True)


def statuses() -> dict[str, str]:
    """Text -> status, of those discarded "away"."""
    return {row.text: "away" if row.discarded_at else row.status for row in Message.objects.all()}


def actions() -> list[str]:
    return list(AuditLog.objects.filter(action__startswith="message.").order_by("id").values_list("action", flat=True))


# -- what is listed --


def test_what_waits_for_a_person_is_listed(browser):
    push = {"role": "assistant", "status": "failed", "platform": "feishu", "text": "Push"}
    question = failed()
    Message.objects.create(conversation=question.conversation, **push)
    Message.objects.create(
        conversation=question.conversation, role="assistant", reply_to=question, status="failed", text="Its reply"
    )
    factories.web_question(status="delivered", text="Well")
    discarded()

    assert listed(browser) == ["Push", "Lost"]
    assert listed(browser, discarded="yes") == ["Put away"]


def test_a_row_says_who_asked_what_and_why_it_failed(browser):
    question = failed("Where is it? " * 20, attempts=3, sender_id="ou_7")

    text = browser.get(LIST).content.decode()

    known = (
        question.conversation.bot.name,
        "Web and API",
        "ou_7",
        "no power",
        "failed",
        "3 attempts",
        "Where is it? Wh",
    )
    assert [part for part in known if part not in text] == []
    assert question.text not in text


def test_reason_is_never_empty(browser):
    failed(error="", status="unconfirmed")
    failed(error="")

    text = browser.get(LIST).content.decode()

    assert "The platform did not say whether it arrived." in text
    assert "No reason was stored." in text


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ({"status": "unconfirmed"}, ["Open"]),
        ({"status": "failed"}, ["Lost"]),
        ({"platform": "dingtalk"}, ["Open"]),
        ({"q": "cut"}, ["Open"]),
        ({"received_at__gte": "2100-01-01 00:00:00+00:00"}, []),
    ],
)
def test_filters_and_search_narrow_the_list(browser, query, texts):
    failed()
    failed("Open", status="unconfirmed", error="cut")
    Message.objects.filter(text="Open").update(platform="dingtalk")

    assert listed(browser, **query) == texts


def test_list_of_one_bot(browser):
    mine = failed("Mine")
    failed("Other")

    assert listed(browser, conversation__bot__id__exact=str(mine.conversation.bot_id)) == ["Mine"]


def test_a_row_leads_to_the_message(browser):
    question = failed()

    response = browser.get(f"{LIST}{question.pk}/change/")

    assert response.headers["Location"] == f"/admin/bots/message/{question.pk}/change/"


def test_counting_ends_somewhere(browser, monkeypatch):
    monkeypatch.setattr(dead_letters, "MOST_COUNTED", 2)
    for number in range(3):
        failed(str(number))

    assert browser.get(LIST).context["cl"].result_count == 2


# -- trying again --


def test_a_button_tries_one_again_and_leads_back(browser, rings, django_capture_on_commit_callbacks):
    question = failed()

    with django_capture_on_commit_callbacks(execute=True):
        response = press(browser, "retry", question, back=f"{LIST}?status=failed")

    assert statuses() == {"Lost": "received"}
    assert response.redirect_chain == [(f"{LIST}?status=failed", 302)]
    assert "1 message is tried again." in response.content.decode()
    assert actions() == ["message.retried"]
    assert rings == [question.conversation_id]


def test_buttons_are_named_for_what_they_do(browser):
    failed("Lost one")
    failed("Open one", status="unconfirmed")
    discarded("Gone one")

    names = re.findall('aria-label="([^"]+ one)"', browser.get(LIST).content.decode())
    of_discarded = re.findall('aria-label="([^"]+ one)"', browser.get(LIST, {"discarded": "yes"}).content.decode())

    assert names == ["Send again: Open one", "Discard: Open one", "Try again: Lost one", "Discard: Lost one"]
    assert of_discarded == ["Try again: Gone one", "Put back: Gone one"]


def test_a_selection_is_tried_again_by_its_status(browser):
    rows = failed(), failed("Open", status="unconfirmed")

    choose(browser, "retry_chosen", *rows)
    assert statuses() == {"Lost": "received", "Open": "unconfirmed"}

    choose(browser, "send_chosen_again", *rows)
    assert statuses() == {"Lost": "received", "Open": "received"}


def test_a_discarded_one_is_put_back_before_it_is_tried_again(browser):
    press(browser, "retry", discarded())

    assert statuses() == {"Put away": "received"}
    assert actions() == ["message.restored", "message.retried"]


def test_what_was_tried_again_meanwhile_is_told_and_left_alone(browser):
    settled, waiting = failed(status="delivered"), failed("Other")

    response = press(browser, "retry", settled, waiting)

    text = response.content.decode()
    assert statuses() == {"Lost": "delivered", "Other": "received"}
    assert "Only what failed or was not confirmed can be tried again" in text
    assert "1 message is tried again." in text


def test_no_more_than_some_are_done_at_once_and_that_is_told(browser, monkeypatch):
    monkeypatch.setattr(acting, "MOST_AT_ONCE", 2)
    for number in range(3):
        failed(str(number))

    response = choose(browser, "retry_chosen", Message.objects.latest("received_at"), select_across="1")

    assert statuses() == {"0": "received", "1": "received", "2": "failed"}
    assert "Only the oldest 2 were taken." in response.content.decode()


# -- discarding --


def test_discarding_asks_once(browser):
    question = failed("What I asked")

    asked = press(browser, "discard", question, back=f"{LIST}?q=asked")
    assert statuses() == {"What I asked": "failed"}
    assert "What I asked" in asked.content.decode()
    assert (asked.context["rows"], asked.context["back"]) == ([question], f"{LIST}?q=asked")

    done = press(browser, "discard", question, back=f"{LIST}?q=asked", confirmed="yes")
    assert statuses() == {"What I asked": "away"}
    assert f'href="{LIST}?discarded=yes"' in done.content.decode()


def test_a_selection_is_discarded(browser):
    rows = failed("One"), failed("Two", status="unconfirmed"), failed("Three")

    asked = choose(browser, "discard_chosen", *rows[:2])
    press(browser, "discard", *asked.context["rows"], confirmed="yes")
    assert statuses() == {"One": "away", "Two": "away", "Three": "failed"}
    assert listed(browser) == ["Three"]


def test_discarded_ones_are_put_back_from_their_list(browser):
    rows = discarded("One"), discarded("Two")

    given = {"action": "restore_chosen", "_selected_action": [row.pk for row in rows]}
    browser.post(f"{LIST}?discarded=yes", given)

    assert statuses() == {"One": "failed", "Two": "failed"}
    assert actions() == ["message.restored"] * 2


def test_who_did_it_is_written(browser):
    question = failed()

    press(browser, "discard", question, confirmed="yes")

    entry = AuditLog.objects.get(action="message.discarded")
    assert (entry.actor_label, entry.target_id) == ("root", str(question.pk))
    assert entry.changes["discarded_at"]["before"] is None


# -- who may --


@pytest.mark.parametrize("name", ["retry", "discard", "restore"])
def test_auditors_look_and_do_nothing(browser_of, name):
    auditor, question = browser_of("auditor"), failed()

    assert listed(auditor) == ["Lost"]
    assert "formaction" not in auditor.get(LIST).content.decode()
    assert press(auditor, name, question, confirmed="yes").status_code == 403
    assert statuses() == {"Lost": "failed"}


def test_auditors_are_offered_no_action_and_sending_one_does_nothing(browser_of):
    auditor, question = browser_of("auditor"), failed()

    choose(auditor, "retry_chosen", question)

    assert statuses() == {"Lost": "failed"}


def test_operators_may(browser_of):
    press(browser_of("operator"), "retry", failed())

    assert statuses() == {"Lost": "received"}


@pytest.mark.parametrize("name", ["retry", "discard", "restore"])
def test_links_change_nothing(browser, name):
    question = failed()

    assert browser.get(f"{LIST}{name}/", {"ids": str(question.pk)}).status_code == 405
    assert statuses() == {"Lost": "failed"}


def test_ids_that_are_none_are_not_found(browser):
    assert browser.post(f"{LIST}retry/", {"ids": "x"}).status_code == 404


@pytest.mark.parametrize("back", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", ""])
def test_nobody_is_led_elsewhere(browser, back):
    response = browser.post(f"{LIST}retry/", {"ids": str(failed().pk), "back": back})

    assert response.headers["Location"] == LIST
