"""DingTalk's plain messages have no id: what happens when the answer to a send is lost, and when nothing arrives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

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
