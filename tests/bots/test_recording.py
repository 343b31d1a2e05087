"""Rule U1, what the bot did: each question that ended has one entry, whenever it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from bots import recording
from bots.models import Message
from monitoring import audit, marks, sealer
from monitoring.models import AuditCursor, AuditLog
from tests import factories

pytestmark = pytest.mark.django_db
Status = Message.Status


def ended(question: Message, status: str = Status.DELIVERED, answer: str = "It is sunny.") -> Message:
    now = timezone.now()
    question.status, question.delivered_at = status, now if status == Status.DELIVERED else None
    question.save()
    return Message.objects.create(
        conversation=question.conversation,
        reply_to=question,
        role="assistant",
        status=status,
        platform="web",
        text=answer,
        completion_tokens=4,
    )


def told() -> list[tuple[str, str, str]]:
    """(action, message, outcome) of what bots did, oldest first."""
    rows = AuditLog.objects.filter(action__in=["message.answered", "push.sent"]).order_by("created_at", "id")
    return list(rows.values_list("action", "target_id", "outcome"))


def test_an_answered_message_is_told_with_digests_of_what_was_said():
    question = factories.web_question(text="How is the weather?", sender_id="ou_1")
    reply = ended(question)

    recording.run()

    entry = AuditLog.objects.get(action="message.answered")
    facts = entry.changes
    assert (entry.actor_kind, entry.actor_label) == ("system", question.conversation.bot.slug)
    assert (entry.target_type, entry.target_id, entry.outcome) == ("bots.message", str(question.pk), "success")
    assert (facts["status"], facts["sender"], facts["reply"]) == ("delivered", "ou_1", str(reply.pk))
    assert facts["question_mark"] == marks.of_content("How is the weather?")
    assert facts["answer_mark"] == marks.of_content("It is sunny.")
    assert "weather" not in str(facts)


def test_a_message_is_told_once_however_often_it_is_read():
    ended(factories.web_question())

    assert [recording.run() for _ in range(3)] == [1, 0, 0]


def test_failures_are_told_and_what_was_not_for_the_bot_is_not():
    failed, ignored = factories.web_question(), factories.web_question()
    ended(failed, Status.FAILED)
    ended(ignored, Status.IGNORED)

    recording.run()

    assert told() == [("message.answered", str(failed.pk), "failure")]


def test_a_message_that_takes_long_is_told_after_the_cursor_went_by():
    slow = factories.web_question(received_at=timezone.now() - timedelta(hours=2))
    recording.run()
    assert AuditCursor.objects.get().passed_over == [str(slow.pk)]

    ended(slow)
    recording.run()

    assert told() == [("message.answered", str(slow.pk), "success")]
    assert AuditCursor.objects.get().passed_over == []


def test_another_try_by_hand_is_told_again():
    message = factories.web_question(received_at=timezone.now() - timedelta(hours=2))
    ended(message, Status.FAILED).delete()
    recording.run()
    message.details = {"retried_at": timezone.now().isoformat()}
    message.status = Status.RECEIVED
    message.save()
    audit.record("message.retried", target=message)
    recording.run()
    ended(message)
    recording.run()

    assert [outcome for _action, _pk, outcome in told()] == ["failure", "success"]


def test_a_push_is_told():
    question = factories.web_question()
    push = Message.objects.create(
        conversation=question.conversation, role="assistant", status=Status.DELIVERED, platform="feishu", text="News"
    )

    recording.run()

    assert told() == [("push.sent", str(push.pk), "success")]


def test_many_messages_cost_few_statements(django_assert_max_num_queries):
    for _ in range(60):
        ended(factories.web_question())
    marks.of_content("")  # the keys are read
    recording.run()
    for _ in range(60):
        ended(factories.web_question())

    with django_assert_max_num_queries(14):
        assert recording.run() == 60


def test_nothing_is_passed_over_for_ever_when_there_is_more_than_one_run_reads(monkeypatch):
    monkeypatch.setattr(recording, "MOST", 3)
    old = timezone.now() - timedelta(hours=1)
    for number in range(8):
        ended(factories.web_question(received_at=old + timedelta(seconds=number)))

    assert sum(recording.run() for _ in range(6)) == 8


def test_what_bots_did_is_sealed_as_genuine():
    ended(factories.web_question())
    recording.run()
    sealer.seal_waiting()

    assert sealer.sign() is not None


def test_a_short_look_tells_of_what_came_last_and_leaves_the_rest_to_the_whole_one():
    old, new = factories.web_question(), factories.web_question()
    ended(old), ended(new)
    Message.objects.filter(pk=old.pk).update(received_at=timezone.now() - timedelta(seconds=40))

    assert recording.run(newest=recording.NEWEST) == 1
    assert told() == [("message.answered", str(new.pk), "success")]
    assert recording.run() == 1
    assert {target for _, target, _ in told()} == {str(old.pk), str(new.pk)}


def test_the_scheduler_looks_at_everything_every_so_often(monkeypatch):
    seen = []
    monkeypatch.setattr(recording, "_whole_look", recording._WholeLook())
    monkeypatch.setattr(recording, "run", lambda newest=None: seen.append(newest) or 0)

    recording.catch_up()
    recording.catch_up()
    monkeypatch.setattr(recording._whole_look, "_next_s", 0.0)
    recording.catch_up()

    assert seen == [None, recording.NEWEST, None]
