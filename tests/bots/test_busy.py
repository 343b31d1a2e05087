"""Above its limits a bot says so at once, instead of growing a queue without end."""

from __future__ import annotations

import pytest

from bots import backlog, intake, turns, web
from bots.errors import Busy
from bots.models import Message
from tests import factories
from tests.bots.conftest import work_off

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh_counts(monkeypatch):
    monkeypatch.setattr(backlog, "LOOK_EVERY_S", 0.0)


def test_a_person_is_told_without_the_model_and_by_any_worker(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"max_waiting": 2})
    waiting = [says(endpoint, f"question {n}", chat=f"cid{n}") for n in range(2)]

    told = says(endpoint, "one too many", chat="cid9")
    turns.work(told.conversation_id, may_answer=False)

    told.refresh_from_db()
    assert [text[:15] for _, text in dingtalk_app.seen] == ["I am busy right"]
    assert told.status == "delivered"
    work_off(*waiting)
    assert [q.status for q in waiting] == ["delivered", "delivered"]


def test_it_answers_again_when_less_waits(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"max_waiting": 1})
    work_off(says(endpoint, "first"))

    work_off(says(endpoint, "second"))

    assert [text for _, text in dingtalk_app.seen] == ["echo: first", "echo: second"]


def test_messages_accepted_together_count_before_they_are_stored(monkeypatch):
    monkeypatch.setattr(backlog, "LOOK_EVERY_S", 3600.0)
    bot = factories.bot()

    assert [backlog.is_full(bot.pk, 3) for _ in range(5)] == [False, False, False, True, True]


def test_stop_is_always_taken(on_dingtalk, says):
    endpoint = on_dingtalk({"max_waiting": 1})
    says(endpoint, "first")

    assert says(endpoint, "/stop").details["kind"] == "command"


def test_a_program_is_refused_and_nothing_is_stored(on_dingtalk):
    bot = factories.bot(max_waiting=1)
    factories.web_question(bot)
    refused = intake.accept(web.draft(bot, "more", scope_key="x", sender_id="s"))

    with pytest.raises(Busy):
        refused.result(10)
    assert Message.objects.count() == 1


def test_zero_is_no_limit(on_dingtalk):
    bot = factories.bot(max_waiting=0)
    factories.web_question(bot)

    assert backlog.is_full(bot.pk, bot.max_waiting) is False
