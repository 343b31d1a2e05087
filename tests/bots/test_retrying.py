"""Trying again and discarding by hand: what is asked or sent anew, what stays, and what is written about it."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from bots import discarding, retrying
from bots.discarding import NotDiscardable
from bots.models import DeliveryStep, Message
from bots.retrying import NotRetriable
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db


def dead(status: str = "failed", **values: Any) -> Message:
    return factories.web_question(status=status, error="no power", attempts=4, **values)


def answer_to(question: Message, **values: Any) -> Message:
    given = {"text": "42", "answered_at": timezone.now(), "status": question.status, **values}
    return Message.objects.create(
        conversation=question.conversation, role="assistant", platform="web", reply_to=question, **given
    )


def audited() -> list[tuple[str, str]]:
    entries = AuditLog.objects.filter(action__startswith="message.").order_by("id")
    return list(entries.values_list("action", "target_id"))


# -- trying again --


def test_without_an_answer_the_model_is_asked_again():
    question = dead()

    retrying.retry(question)

    question.refresh_from_db()
    assert (question.status, question.error, question.attempts) == ("received", "", 0)
    assert question.details["retried_at"] != ""
    assert retrying.stored_answer(question) is None


def test_a_complete_answer_is_sent_again_and_kept():
    question = dead("unconfirmed")
    reply = answer_to(question)
    step = DeliveryStep.objects.create(
        message=reply, name="text", key="k", fence=1, first_tried_at=timezone.now(), state="intended"
    )

    assert retrying.stored_answer(question) == reply
    retrying.retry(reply)

    for row in (question, reply, step):
        row.refresh_from_db()
    assert (question.status, reply.status, reply.is_current, step.state) == ("answered", "answered", True, "refused")


def test_an_apology_makes_way_for_an_answer():
    question = dead()
    apology = answer_to(question, finish_reason="error")

    retrying.retry(question)

    apology.refresh_from_db()
    question.refresh_from_db()
    assert (question.status, apology.is_current) == ("received", False)


def test_what_was_discarded_is_put_back_first_and_both_are_written():
    question = dead(discarded_at=timezone.now())

    retrying.retry(question)

    question.refresh_from_db()
    assert (question.status, question.discarded_at) == ("received", None)
    assert audited() == [("message.restored", str(question.pk)), ("message.retried", str(question.pk))]


def test_messages_with_a_common_answer_are_one_try():
    first, newest = dead(scope_key="user:1"), dead(scope_key="user:1")
    first.details, newest.details = {"answered_with": str(newest.pk)}, {"together": [str(first.pk)]}
    Message.objects.bulk_update([first, newest], ["details"])

    assert retrying.retry(first).pk == newest.pk

    assert list(Message.objects.order_by("pk").values_list("status", flat=True)) == ["received", "received"]
    assert {first.pk.hex, newest.pk.hex} == {target.replace("-", "") for _action, target in audited()}


def test_one_whose_common_answer_arrived_meanwhile_is_tried_by_itself():
    first, newest = dead(), dead("delivered")
    first.details = {"answered_with": str(newest.pk)}
    first.save()

    assert retrying.retry(first).pk == first.pk

    newest.refresh_from_db()
    assert newest.status == "delivered"


def test_what_is_well_is_refused_in_words():
    with pytest.raises(NotRetriable, match="not: delivered"):
        retrying.retry(dead("delivered"))

    assert audited() == []


# -- discarding --


def test_a_discarded_message_is_no_dead_letter_and_stays_in_the_record():
    question = dead()

    discarding.discard(question)

    assert list(Message.objects.dead_letters()) == []
    question.refresh_from_db()
    assert (question.status, question.error) == ("failed", "no power")
    assert audited() == [("message.discarded", str(question.pk))]


def test_of_a_reply_the_question_is_discarded_and_put_back():
    question = dead()
    reply = answer_to(question)

    discarding.discard(reply)
    assert list(Message.objects.dead_letters()) == []

    discarding.restore(reply)
    assert list(Message.objects.dead_letters()) == [question]
    assert audited() == [("message.discarded", str(question.pk)), ("message.restored", str(question.pk))]


@pytest.mark.parametrize("values", [{"status": "delivered"}, {"discarded_at": timezone.now()}])
def test_only_dead_letters_are_discarded(values):
    question = dead(**values)

    with pytest.raises(NotDiscardable, match=r"not: (delivered|discarded)"):
        discarding.discard(question)


def test_only_what_was_discarded_is_put_back():
    with pytest.raises(NotDiscardable, match="not: failed"):
        discarding.restore(dead())
