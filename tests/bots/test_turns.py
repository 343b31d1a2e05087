"""The message path from the stored question to the settled one, with the echo engine and the web as platform."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from bots import sweeping, turns
from bots.models import Message
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def work(question: Message) -> Message:
    turns.work(question.conversation_id, may_answer=True)
    question.refresh_from_db()
    return question


def test_a_question_is_answered_and_delivered():
    question = work(factories.web_question(text="Hello 你好"))

    reply = question.replies.get()
    assert (question.status, question.error) == ("delivered", "")
    assert (reply.role, reply.status, reply.text) == ("assistant", "delivered", "echo: Hello 你好")
    assert reply.completion_tokens > 0
    assert {"queue", "first_token", "generate", "deliver", "total"} <= set(question.timings)


def test_questions_of_one_conversation_are_answered_in_order():
    bot = factories.bot()
    questions = [factories.web_question(bot, str(n), scope_key="one") for n in range(5)]

    work(questions[0])

    replies = Message.objects.filter(role="assistant").order_by("answered_at")
    assert [reply.text for reply in replies] == [f"echo: {n}" for n in range(5)]


def test_a_question_that_must_wait_keeps_the_later_ones_waiting():
    bot = factories.bot()
    first = factories.web_question(bot, "1", scope_key="one", next_attempt_at=timezone.now() + timedelta(hours=1))
    second = factories.web_question(bot, "2", scope_key="one")

    work(first)

    assert [first.status, Message.objects.get(pk=second.pk).status] == ["received", "received"]


def test_an_answer_begun_by_a_dead_worker_is_begun_anew():
    question = factories.web_question(text="again", status="answering", attempts=1)

    work(question)

    assert (question.status, question.attempts, question.replies.get().text) == ("delivered", 2, "echo: again")


def test_a_stored_answer_is_delivered_without_asking_the_model_again():
    question = factories.web_question(status="answered")
    Message.objects.create(
        conversation=question.conversation, role="assistant", platform="web", reply_to=question, text="stored"
    )

    turns.work(question.conversation_id, may_answer=False)

    question.refresh_from_db()
    assert (question.status, question.replies.get().text) == ("delivered", "stored")


def test_a_delivery_worker_leaves_unanswered_questions_alone():
    question = factories.web_question()

    turns.work(question.conversation_id, may_answer=False)

    question.refresh_from_db()
    assert question.status == "received"


def test_a_message_taken_back_is_not_answered():
    question = work(factories.web_question(cancel_requested_at=timezone.now()))

    assert (question.status, question.replies.count()) == ("cancelled", 0)


def test_a_question_that_waited_too_long_gets_one_apology():
    bot = factories.bot(too_late_after_s=60)
    question = work(factories.web_question(bot, received_at=timezone.now() - timedelta(minutes=5)))

    assert (question.status, question.error) == ("failed", "not answered in time")
    assert "could not answer your message in time" in question.replies.get().text


def test_a_broken_model_gives_one_polite_word_and_keeps_the_reason():
    bot = factories.bot(model=factories.model(engine="transformers", path="/no/such/folder"))
    question = work(factories.web_question(bot))

    reply = question.replies.get()
    assert question.status == "failed"
    assert "/no/such/folder" in question.error
    assert "/no/such/folder" not in reply.text
    assert "cannot answer right now" in reply.text


def test_a_person_who_writes_too_fast_is_told_so():
    bot = factories.bot(rate_limit_per_user_per_minute=2)
    questions = [factories.web_question(bot, str(n), scope_key="one", sender_id="u1") for n in range(3)]

    work(questions[0])

    texts = Message.objects.filter(role="assistant").order_by("answered_at").values_list("text", flat=True)
    assert list(texts)[:2] == ["echo: 0", "echo: 1"]
    assert "faster than I may answer" in texts[2]


def test_the_sweeper_finds_what_nobody_holds():
    old = timezone.now() - timedelta(seconds=10)
    question = factories.web_question(received_at=old)
    factories.web_question(received_at=old, next_attempt_at=timezone.now() + timedelta(hours=1))
    held = factories.web_question(received_at=old)
    type(held.conversation).objects.filter(pk=held.conversation_id).update(
        lease_owner="alive", lease_until=timezone.now() + timedelta(seconds=10)
    )

    assert list(sweeping.questions()) == [(question.conversation_id, "inference", True)]
