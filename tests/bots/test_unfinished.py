"""Cards that a worker left open are closed, once, and only when nobody will come back to them."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from bots import unfinished
from bots.addressing import credentials_of
from bots.delivery import OpenReply
from bots.models import DeliveryStep, Endpoint, Message
from bots.replies import reply_to
from tests.integrations.dingtalk.fake_dingtalk import STREAM

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def left_open(on_dingtalk, says):
    """A question of which a dead worker's card shows the beginning of an answer; with this status now."""

    def make(status: str, age: timedelta = timedelta(minutes=5)) -> Message:
        endpoint = on_dingtalk(bot={"reply_mode": "stream"})
        endpoint.credential.card_template_id = "tmpl.schema"
        endpoint.credential.save()
        question = Message.objects.get(pk=says(endpoint).pk)
        open_reply = OpenReply(question, reply_to(question))
        open_reply.write("half an answer")
        deadline = time.monotonic() + 10
        while not DeliveryStep.objects.filter(name="card", state="done").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        open_reply.close()
        Message.objects.filter(pk=question.pk).update(status=status)
        DeliveryStep.objects.update(first_tried_at=timezone.now() - age)
        return question

    return make


@pytest.mark.parametrize("status", ["failed", "cancelled", "unconfirmed"])
def test_card_is_closed_when_its_question_is_settled(left_open, dingtalk_app, status):
    left_open(status)

    assert unfinished.close_all() == 1
    [card] = dingtalk_app.cards.values()
    assert (card.ends, card.texts[0]) == (["failed"], "half an answer")
    assert unfinished.close_all() == 0


def test_card_is_closed_when_a_retry_made_another_reply(left_open, dingtalk_app):
    question = left_open("answering")
    assert unfinished.close_all() == 0
    question.replies.update(is_current=False)

    assert unfinished.close_all() == 1
    assert next(iter(dingtalk_app.cards.values())).ends == ["failed"]


@pytest.mark.parametrize("status", ["received", "answering", "answered"])
def test_card_is_left_alone_when_a_worker_will_come_back(left_open, dingtalk_app, status):
    left_open(status)

    assert unfinished.close_all() == 0
    assert next(iter(dingtalk_app.cards.values())).ends == []


@pytest.mark.parametrize("age", [timedelta(seconds=30), timedelta(hours=7)])
def test_card_is_left_alone_when_it_is_of_this_minute_or_of_yesterday(left_open, age):
    left_open("failed", age)

    assert unfinished.close_all() == 0


def test_card_is_looked_at_again_when_the_platform_was_busy(left_open, dingtalk_app):
    left_open("failed")
    dingtalk_app.fail(STREAM, (500, {"code": "system.busy", "message": "x"}))

    assert (unfinished.close_all(), unfinished.close_all(), unfinished.close_all()) == (1, 1, 0)
    assert next(iter(dingtalk_app.cards.values())).ends == ["failed"]


def test_card_is_looked_at_once_when_its_endpoint_is_gone(left_open, dingtalk_app):
    left_open("failed")
    Endpoint.objects.all().delete()

    assert (unfinished.close_all(), unfinished.close_all()) == (1, 0)
    assert next(iter(dingtalk_app.cards.values())).ends == []


def test_platform_is_told_our_address_only_where_it_calls_us(on_dingtalk, says):
    endpoint = on_dingtalk()
    question = says(endpoint)
    assert credentials_of(question).callback_url == endpoint.webhook_url
    endpoint.mode = "stream"
    endpoint.save()

    assert credentials_of(Message.objects.get(pk=question.pk)).callback_url == ""
