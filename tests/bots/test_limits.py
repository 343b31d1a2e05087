"""Rule L5: what one person and all together may ask of a bot in a day and at the same time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from bots import leases, limits, turns
from bots.models import Conversation, Message
from tests import factories
from tests.bots.conftest import work_off

pytestmark = [pytest.mark.django_db, pytest.mark.rule("L5")]


@pytest.fixture(autouse=True)
def counted_at_once(monkeypatch):
    monkeypatch.setattr(limits, "COUNTED_EVERY_S", 0.0)


def answers(bot, count: int, senders: str = "one") -> list[str]:
    """What is said to each question, one after the other."""
    said = []
    for number in range(count):
        sender = senders if senders == "one" else f"person {number}"
        question = factories.web_question(bot, f"{number}", sender_id=sender)
        work_off(question)
        said.append(question.replies.get().text)
    return said


@pytest.mark.parametrize(
    ("limit", "senders", "words"),
    [
        ({"rate_limit_per_user_per_minute": 3}, "one", "faster than I may answer"),
        ({"daily_messages_per_user": 3}, "one", "today's allowance"),
        ({"daily_tokens_per_user": 9}, "one", "today's allowance"),
        ({"daily_messages": 3}, "many", "as much as I may today"),
        ({"daily_tokens": 9}, "many", "as much as I may today"),
    ],
)
def test_abuse_ends_at_the_limit_and_costs_no_tokens_after_it(limit, senders, words):
    bot = factories.bot(rate_limit_per_user_per_minute=0)
    for name, value in limit.items():
        setattr(bot, name, value)
    bot.save()

    said = answers(bot, 8, senders)

    served = [text for text in said if text.startswith("echo:")]
    assert said[: len(served)] == served
    assert 1 < len(served) <= 4
    assert all(words in text for text in said[len(served) :])
    assert Message.objects.filter(role="assistant", completion_tokens__gt=0).count() == len(served)


def test_one_persons_limit_is_not_anothers_and_yesterday_does_not_count():
    bot = factories.bot(daily_messages_per_user=1, daily_messages=3)
    factories.web_question(bot, sender_id="one", received_at=timezone.now() - timedelta(days=2))

    assert [text[:5] for text in answers(bot, 2)] == ["echo:", "You h"]
    assert answers(bot, 1, "many")[0].startswith("echo:")


@pytest.mark.parametrize("limit", ["max_parallel", "max_parallel_per_user"])
def test_questions_above_the_parallel_limit_wait_for_their_turn(limit):
    bot = factories.bot(**{limit: 1})
    first = factories.web_question(bot, "first", sender_id="one", status="answering")
    second = factories.web_question(bot, "second", sender_id="one")
    with leases.hold(first.conversation_id):
        turns.work(second.conversation_id, may_answer=True)
        second.refresh_from_db()
        assert (second.replies.count(), second.attempts, second.next_attempt_at is None) == (0, 0, False)

    Message.objects.update(next_attempt_at=None)
    work_off(second)
    assert (second.status, second.replies.get().text) == ("delivered", "echo: second")


def test_what_nobody_holds_any_more_takes_no_place():
    bot = factories.bot(max_parallel=1)
    died = factories.web_question(bot, "died", status="answering")
    Conversation.objects.filter(pk=died.conversation_id).update(lease_until=timezone.now() - timedelta(seconds=1))
    question = factories.web_question(bot, "next")

    work_off(question)

    assert question.status == "delivered"


def test_an_answer_is_no_longer_than_the_bot_allows():
    bot = factories.bot(max_tokens=3)
    question = factories.web_question(
        bot, "one two three four five six seven", details={"request": {"max_tokens": 999}}
    )

    work_off(question)

    reply = question.replies.get()
    assert (reply.completion_tokens, reply.finish_reason) == (3, "length")


def test_the_notice_that_an_ai_wrote_it_stands_under_every_answer():
    bot = factories.bot(ai_notice="Made by AI")
    first = factories.web_question(bot, "hello", scope_key="one")
    work_off(first)
    second = factories.web_question(bot, "again", scope_key="one")
    work_off(second)

    assert first.replies.get().text == "echo: hello\n\nMade by AI"
    assert second.replies.get().text == "echo: again\n\nMade by AI"


def test_the_admin_shows_what_was_used_today(settings):
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected
    browser, bot = Client(), factories.bot()
    browser.force_login(get_user_model().objects.create_superuser("root", password="x"))
    answers(bot, 2)

    page = browser.get(f"/admin/bots/bot/{bot.pk}/change/").content.decode()

    messages, tokens = limits.used_today(bot)
    assert (messages, tokens > 0) == (2, True)
    assert f"{messages} messages, {tokens} tokens" in page
