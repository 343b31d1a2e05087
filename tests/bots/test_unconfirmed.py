"""DingTalk's plain messages have no id: what happens when the answer to a send is lost, and when nothing arrives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from bots import delivery
from bots.errors import LeaseLost
from bots.models import Message
from tests.bots.conftest import work_off
from tests.integrations.dingtalk.fake_dingtalk import CUT_AFTER, SESSION, TO_USER

pytestmark = pytest.mark.django_db(transaction=True)


def shown(dingtalk_app) -> list[str]:
    return [text for _, text in dingtalk_app.seen]


def due(question: Message) -> None:
    Message.objects.filter(pk=question.pk).update(next_attempt_at=None)


def test_a_send_with_a_lost_answer_is_left_to_the_admin(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk())
    dingtalk_app.fail(SESSION, CUT_AFTER)

    work_off(question)
    work_off(question)

    assert (question.status, shown(dingtalk_app)) == ("unconfirmed", ["echo: Hello"])
    assert question in Message.objects.dead_letters()


def test_an_endpoint_may_choose_to_send_again(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk(unconfirmed_policy="send_again"))
    dingtalk_app.fail(SESSION, CUT_AFTER)

    work_off(question)
    assert question.next_attempt_at > timezone.now()
    due(question)
    work_off(question)

    assert question.status == "delivered"
    assert shown(dingtalk_app) == ["echo: Hello", "echo: Hello"]


def test_an_answer_that_nobody_saw_in_time_gives_way_to_one_apology(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk({"too_late_after_s": 60}))
    dingtalk_app.fail(SESSION, (500, {}))
    dingtalk_app.fail(TO_USER, (503, {"code": "ServiceUnavailable", "message": "no"}))
    work_off(question)
    assert question.status == "answered"

    Message.objects.filter(pk=question.pk).update(received_at=timezone.now() - timedelta(minutes=2))
    due(question)
    work_off(question)

    assert question.status == "failed"
    assert [text[:5] for text in shown(dingtalk_app)] == ["Sorry"]
    assert question.replies.get().text == shown(dingtalk_app)[0]


def test_an_answer_that_may_have_been_seen_is_never_replaced(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk({"too_late_after_s": 60}))
    dingtalk_app.fail(SESSION, CUT_AFTER)
    work_off(question)

    Message.objects.filter(pk=question.pk).update(received_at=timezone.now() - timedelta(minutes=2), status="answered")
    work_off(question)

    assert (question.status, shown(dingtalk_app)) == ("unconfirmed", ["echo: Hello"])


def test_of_several_old_messages_of_a_chat_only_the_last_one_gets_an_apology(on_dingtalk, says, dingtalk_app):
    """After an outage nobody is flooded."""
    endpoint = on_dingtalk({"too_late_after_s": 60})
    old = [says(endpoint, f"old {n}") for n in range(4)]
    Message.objects.update(received_at=timezone.now() - timedelta(minutes=5))
    new = says(endpoint, "new")

    work_off(*old, new)

    assert [text[:9] for text in shown(dingtalk_app)] == ["Sorry, I ", "echo: new"]
    assert [q.status for q in old] == ["failed"] * 4
    assert new.status == "delivered"


def test_a_command_is_carried_out_however_old_it_is(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"too_late_after_s": 60})
    old = [says(endpoint, text) for text in ("/new", "question", "/status")]
    Message.objects.update(received_at=timezone.now() - timedelta(minutes=5))

    work_off(*old)

    begins = [text[:10] for _, text in dingtalk_app.seen]
    assert begins == ["A new conv", "Sorry, I c", "Bot: " + endpoint.bot.name[:5]]


def test_another_persons_apology_is_not_mine(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"too_late_after_s": 60})
    mine, theirs = says(endpoint, "mine"), says(endpoint, "theirs")
    Message.objects.update(received_at=timezone.now() - timedelta(minutes=5))
    Message.objects.filter(pk=theirs.pk).update(sender_id="staff0002")

    work_off(mine)

    assert len(shown(dingtalk_app)) == 2


def test_sending_again_has_an_end(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk(unconfirmed_policy="send_again"))
    dingtalk_app.fail(SESSION, *[CUT_AFTER] * 9)
    dingtalk_app.fail(TO_USER, *[CUT_AFTER] * 9)

    for _ in range(9):
        due(question)
        work_off(question)

    assert question.status == "unconfirmed"
    assert len(shown(dingtalk_app)) == 1 + delivery.MOST_SENT_AGAIN


def test_a_message_taken_back_while_its_answer_waits_is_not_answered(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk())
    dingtalk_app.fail(SESSION, (500, {}))
    dingtalk_app.fail(TO_USER, (503, {"code": "ServiceUnavailable", "message": "no"}))
    work_off(question)
    assert question.status == "answered"

    Message.objects.filter(pk=question.pk).update(cancel_requested_at=timezone.now())
    due(question)
    work_off(question)

    assert (question.status, shown(dingtalk_app)) == ("cancelled", [])


def test_what_surely_arrived_wins_over_nobody_knows(on_dingtalk, says):
    """A worker that was slow to note its send, and another that found the intent meanwhile."""
    question = says(on_dingtalk())
    Message.objects.filter(pk=question.pk).update(status="unconfirmed")

    delivery.settle(question, None, "delivered")

    assert Message.objects.get(pk=question.pk).status == "delivered"
    with pytest.raises(LeaseLost):
        delivery.settle(question, None, "failed")
