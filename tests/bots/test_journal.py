from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from bots import delivery, replies
from bots.answers import Answer
from bots.journal import DatabaseJournal, held
from bots.models import Message
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def reply() -> Message:
    question = factories.web_question()
    return Message.objects.create(
        conversation=question.conversation, role="assistant", platform="feishu", reply_to=question
    )


def test_each_holder_has_a_higher_fence(reply):
    assert [DatabaseJournal(held(reply)).fence for _ in range(3)] == [1, 2, 3]


def test_the_same_step_keeps_its_key_whoever_asks(reply):
    first = DatabaseJournal(reply).intend("part-1")
    second = DatabaseJournal(reply).intend("part-1")

    assert first.key == second.key
    assert len(first.key) <= 50
    assert (first.is_new, second.is_new) == (True, False)


def test_steps_have_keys_of_their_own(reply):
    journal = DatabaseJournal(reply)

    assert journal.intend("part-1").key != journal.intend("part-2").key


def test_a_done_step_stays_done_and_remembers_its_remote_id(reply):
    journal = DatabaseJournal(reply)
    journal.intend("card")
    journal.done("card", "card-1")

    found = DatabaseJournal(reply).find("card")

    assert (found.state, found.remote_id) == ("done", "card-1")
    assert DatabaseJournal(reply).intend("card").state == "done"


def test_a_sign_of_work_is_nothing_of_the_answer(reply):
    journal = DatabaseJournal(reply)
    journal.intend("typing")
    journal.done("typing", "reaction-1")
    assert delivery.is_unseen(reply)

    journal.intend("part-1")

    assert not delivery.is_unseen(reply)


def test_a_refused_step_may_be_made_anew(reply):
    journal = DatabaseJournal(reply)
    journal.intend("part-1")
    journal.refused("part-1", "busy")

    again = DatabaseJournal(reply).intend("part-1")

    assert (again.state, again.is_new) == ("intended", True)


def test_a_step_can_be_refused_without_having_been_begun(reply):
    journal = DatabaseJournal(reply)
    journal.refused("card", "no permission")

    assert journal.find("card").state == "refused"


@pytest.mark.django_db(transaction=True)
def test_the_first_step_and_the_stored_answer_may_come_at_once():
    """The flusher's thread and the engine's: one row, whoever is first."""
    for _ in range(10):
        question = factories.web_question(attempts=1, status="answering")
        journal = DatabaseJournal(replies.reply_to(question))
        with ThreadPoolExecutor(2) as threads:
            step = threads.submit(in_thread, journal.intend, "card")
            stored = threads.submit(in_thread, replies.store, question, journal, Answer("text", "stop"), settles=True)
            assert step.result().is_new
            stored.result()

        assert [(r.text, r.steps.count()) for r in question.replies.all()] == [("text", 1)]


def in_thread(work, *args, **kwargs):
    try:
        return work(*args, **kwargs)
    finally:
        connection.close()
