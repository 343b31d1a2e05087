from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bots.admin import figures
from bots.admin.figures import percentile
from bots.models import Bot, Endpoint, Message
from monitoring import alerts
from tests import factories


def question(bot: Bot, status: str = "delivered", total: int = 1000, **values: Any) -> Any:
    return factories.web_question(bot, status=status, timings={"total": total}, completion_tokens=10, **values)


def cards(response: Any) -> dict[str, str]:
    return {str(card.title): card.value for card in response.context["cards"]}


def test_numbers_are_those_of_the_questions(browser, monkeypatch):
    noon = timezone.localtime().replace(hour=12)
    monkeypatch.setattr(timezone, "now", lambda: noon)
    bot = factories.bot()
    for total in (100, 200, 300, 40_000):
        question(bot, total=total, received_at=noon)
    question(bot, "failed", received_at=noon, error="no power")
    question(bot, "unconfirmed", received_at=noon - timedelta(days=2))
    question(bot, "answering", received_at=noon)

    response = browser.get("/admin/")

    assert cards(response) == {
        "Messages today": "6",
        "Answered": "80 %",
        "Time to the answer": "200 ms",
        "Slowest answers": "40.0 s",
        "Waiting now": "1",
        "Failed": "1",
        "Unconfirmed": "1",
        "Tokens": "60",
    }
    assert [(day.bot, day.questions, day.lost) for day in response.context["bot_days"]] == [(bot, 6, 1)]
    assert sum(hour.questions for hour in figures.per_hour(Message.objects.all(), noon)) == 6
    assert "no power" in response.content.decode()


def test_cards_lead_to_lists_that_open(browser):
    response = browser.get("/admin/")

    links = [card.link for card in response.context["cards"] if card.link]
    assert [browser.get(link).status_code for link in links] == [200] * 4


def test_discarded_dead_letters_are_not_counted_and_not_shown(browser):
    question(factories.bot(), "failed", error="old trouble", discarded_at=timezone.now())

    response = browser.get("/admin/")

    assert cards(response)["Failed"] == "0"
    assert "old trouble" not in response.content.decode()


def test_trouble_leads_to_its_dead_letters(browser):
    question(factories.bot(), "failed", text="Lost one")
    question(factories.bot(), "unconfirmed", text="Open one")
    links = {str(card.title): card.link for card in browser.get("/admin/").context["cards"]}

    shown = {title: browser.get(links[title]).content.decode() for title in ("Failed", "Unconfirmed")}

    assert {title: ("Lost one" in text, "Open one" in text) for title, text in shown.items()} == {
        "Failed": (True, False),
        "Unconfirmed": (False, True),
    }


def test_dashboard_takes_as_many_queries_for_three_bots_as_for_one(queries):
    question(factories.bot())
    of_one = queries("/admin/")
    for _number in range(2):
        question(factories.bot(), "failed")

    assert queries("/admin/") == of_one


def test_steps_are_ticked_off_and_go_when_a_platform_has_spoken(browser):
    assert [step.is_done for step in browser.get("/admin/").context["steps"]] == [False] * 4

    endpoint = factories.endpoint()
    question(endpoint.bot)
    assert [step.is_done for step in browser.get("/admin/").context["steps"]] == [True] * 4

    Endpoint.objects.update(last_event_at=timezone.now())
    assert browser.get("/admin/").context["steps"] == []


def test_staff_without_a_role_sees_the_way_to_the_playground_and_no_numbers(browser_of):
    question(factories.bot(name="Secret bot"), error="no power")

    response = browser_of().get("/admin/")

    assert response.status_code == 200
    assert "/admin/playground/" in response.content.decode()
    assert "no power" not in response.content.decode()
    assert "cards" not in response.context


def test_open_alerts_and_the_embedded_mode_are_told(browser, settings):
    settings.EMBEDDED = True
    alerts.open_alert("disk", "The disk is nearly full.")

    text = browser.get("/admin/").content.decode()

    assert "The disk is nearly full." in text
    assert "Embedded mode." in text


@pytest.mark.parametrize(
    ("ordered", "share", "value"),
    [([], 0.5, None), ([7.0], 0.95, 7.0), ([1.0, 2.0, 3.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.95, 95.0)],
)
def test_percentile_is_the_smallest_that_enough_do_not_exceed(ordered, share, value):
    assert percentile(ordered, share) == value
