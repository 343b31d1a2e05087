"""Several messages of one person, one answer: only where the bot is set to, and the same after a crash."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bots import together
from bots.models import Message
from tests.bots.conftest import work_off

pytestmark = pytest.mark.django_db(transaction=True)


def shown(dingtalk_app) -> list[str]:
    return [text for _, text in dingtalk_app.seen]


def statuses() -> list[str]:
    return list(Message.objects.filter(role="user").order_by("received_at", "id").values_list("status", flat=True))


def test_waiting_messages_get_one_answer_where_the_bot_is_set_to(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})

    work_off(*[says(endpoint, text) for text in ("one", "two", "three")])

    assert shown(dingtalk_app) == ["echo: one\n\ntwo\n\nthree"]
    assert statuses() == ["delivered"] * 3
    assert Message.objects.filter(role="assistant").count() == 1


def test_each_has_its_own_answer_otherwise(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk()

    work_off(*[says(endpoint, text) for text in ("one", "two")])

    assert shown(dingtalk_app) == ["echo: one", "echo: two"]


def test_a_command_in_between_ends_the_group(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})

    work_off(*[says(endpoint, text) for text in ("one", "two", "/status", "three")])

    first, _status, last = shown(dingtalk_app)
    assert (first, last) == ("echo: one\n\ntwo", "echo: three")


def test_a_group_outlives_a_crash_unchanged(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})
    one, two = says(endpoint, "one"), says(endpoint, "two")
    together.lead(list(Message.objects.waiting()))  # a worker dies right after it fixed the group
    three = says(endpoint, "three")

    work_off(one, two, three)

    assert shown(dingtalk_app) == ["echo: one\n\ntwo", "echo: three"]


def test_one_that_was_taken_back_does_not_end_as_delivered(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})
    one, two = says(endpoint, "one"), says(endpoint, "two")
    together.lead(list(Message.objects.waiting()))
    Message.objects.filter(pk=one.pk).update(cancel_requested_at=two.received_at)

    work_off(two)

    assert statuses() == ["cancelled", "delivered"]


def test_when_the_newest_is_taken_back_the_others_are_answered(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})
    one, two, three = (says(endpoint, text) for text in ("one", "two", "three"))
    together.lead(list(Message.objects.waiting()))
    Message.objects.filter(pk=three.pk).update(cancel_requested_at=three.received_at)

    work_off(one, two)

    assert shown(dingtalk_app) == ["echo: one\n\ntwo"]
    assert statuses() == ["delivered", "delivered", "cancelled"]


def test_words_that_were_taken_back_are_not_given_to_the_model(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})
    one, two = says(endpoint, "one"), says(endpoint, "two")
    together.lead(list(Message.objects.waiting()))
    Message.objects.filter(pk=one.pk).update(cancel_requested_at=two.received_at)

    work_off(two)

    assert shown(dingtalk_app) == ["echo: two"]


def test_a_postponed_group_waits_although_a_new_message_came(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"answers_together": True})
    one, two = says(endpoint, "one"), says(endpoint, "two")
    together.lead(list(Message.objects.waiting()))
    later = two.received_at + timedelta(minutes=10)
    Message.objects.filter(pk=two.pk).update(next_attempt_at=later, status="answered")

    work_off(one, says(endpoint, "three"))

    assert shown(dingtalk_app) == []
