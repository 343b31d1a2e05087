"""Buttons and thumbs: whose count, for which answer, and that a click never counts twice."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from bots import buttons, clicks, inbound
from bots.listening import Events
from bots.models import Endpoint, Feedback, Message
from integrations.values import CardAction, Reaction
from tests import factories
from tests.bots.conftest import work_off

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def endpoint(on_dingtalk: Any) -> Endpoint:
    return on_dingtalk()


@pytest.fixture
def reply(endpoint: Endpoint, says: Any) -> Message:
    """An answer that the platform knows as ``card-1``."""
    question = says(endpoint, "Hello")
    work_off(question)
    reply = question.replies.get()
    reply.steps.update(remote_id="card-1")
    return reply


@pytest.fixture
def unfinished(endpoint: Endpoint, says: Any) -> Message:
    """An answer that is being written; ``staff0001`` asked."""
    question = says(endpoint, "A long story")
    return begun(question)


def begun(question: Message) -> Message:
    Message.objects.filter(pk=question.pk).update(status="answering")
    return Message.objects.create(
        conversation=question.conversation, reply_to=question, role="assistant", status="answering", platform="dingtalk"
    )


def value(button: str, reply: Message) -> str:
    return getattr(buttons.of(reply.pk), button).value


def press(endpoint: Endpoint, button: str, reply: Message, user: str = "staff0001") -> tuple[str, str]:
    toast = clicks.press(endpoint, CardAction(user_id=user, value=value(button, reply)))
    return toast.text, toast.kind


def votes(reply: Message) -> list[tuple[str, str]]:
    return sorted(Feedback.objects.filter(reply=reply).values_list("user_id", "vote"))


# -- stop --


def test_stop_ends_the_answer_of_who_asked(endpoint, unfinished):
    assert press(endpoint, "stop", unfinished) == ("Stopped.", "success")

    assert Message.objects.get(pk=unfinished.reply_to_id).cancel_requested_at is not None


def test_in_a_group_nobody_else_can_stop_an_answer(endpoint, says):
    reply = begun(says(endpoint, "A long story", target=factories.ReplyTarget("cidG", "group", sender_id="staff0001")))

    text, kind = press(endpoint, "stop", reply, user="somebody-else")

    assert (text, kind) == ("Only who asked can stop this answer.", "warning")
    assert Message.objects.get(pk=reply.reply_to_id).cancel_requested_at is None


def test_a_complete_answer_is_not_stopped(endpoint, reply):
    assert press(endpoint, "stop", reply) == ("The answer is complete already.", "info")


# -- feedback --


def test_a_second_click_changes_the_mind_and_never_doubles(endpoint, reply):
    for button in ("up", "up", "down"):
        assert press(endpoint, button, reply)[1] == "success"
    press(endpoint, "up", reply, user="staff0002")

    assert votes(reply) == [("staff0001", "down"), ("staff0002", "up")]


def test_a_thumb_under_an_answer_is_feedback_until_it_is_taken_away(endpoint, reply):
    clicks.react(endpoint, Reaction("card-1", "staff0001", "up"))
    after_one = votes(reply)
    clicks.react(endpoint, Reaction("card-1", "staff0001", "down"))
    after_two = votes(reply)
    clicks.react(endpoint, Reaction("card-1", "staff0001", "up", is_removed=True))  # the first one: no longer theirs
    after_three = votes(reply)
    clicks.react(endpoint, Reaction("card-1", "staff0001", "down", is_removed=True))

    assert (after_one, after_two, after_three, votes(reply)) == (
        [("staff0001", "up")],
        [("staff0001", "down")],
        [("staff0001", "down")],
        [],
    )


def test_a_thumb_under_what_people_wrote_is_nothing(endpoint, reply):
    clicks.react(endpoint, Reaction("m-of-a-person", "staff0001", "up"))

    assert Feedback.objects.count() == 0


def test_a_card_that_carries_no_value_is_found_by_its_id(endpoint, reply):
    toast = clicks.press(endpoint, CardAction("staff0001", card_id="card-1", button="down"))

    assert (toast.vote, votes(reply)) == ("down", [("staff0001", "down")])


# -- what does not count --


@pytest.mark.parametrize(
    "forge",
    [
        lambda good: good[:-1] + ("0" if good[-1] != "0" else "1"),
        lambda good: good.replace("up.", "down."),
        lambda good: f"up.{uuid4().hex}.{good.rpartition('.')[2]}",
        lambda good: "up",
        lambda good: "up..é",
        lambda good: "",
    ],
    ids=["seal", "button", "answer", "half", "odd", "empty"],
)
def test_a_forged_button_does_nothing(endpoint, reply, forge):
    toast = clicks.press(endpoint, CardAction("staff0001", value=forge(value("up", reply))))

    assert (toast.text, toast.kind, votes(reply)) == ("This button is no longer valid.", "warning", [])


def test_a_click_that_comes_by_another_app_does_nothing(reply):
    other = factories.endpoint(bot=reply.conversation.bot)

    assert press(other, "up", reply)[1] == "warning"
    clicks.react(other, Reaction("card-1", "staff0001", "up"))
    assert clicks.press(other, CardAction("staff0001", card_id="card-1", button="up")).kind == "warning"
    assert votes(reply) == []


def test_a_click_by_nobody_does_nothing(endpoint, reply):
    assert press(endpoint, "up", reply, user="")[1] == "warning"


# -- the two ways in --


def test_the_door_answers_a_click_with_what_the_platform_wants(endpoint, reply, platform):
    effect = inbound.handle(endpoint, CardAction("staff0001", value=value("up", reply)))

    assert effect == inbound.Effect(shown={"toast": "Thank you for your feedback.", "kind": "success", "vote": "up"})


async def test_a_long_connection_answers_a_click_too(endpoint, reply, platform):
    await Endpoint.objects.filter(pk=endpoint.pk).aupdate(mode="stream")

    shown = await Events(endpoint.pk)(CardAction("staff0001", value=value("down", reply)))

    assert shown == {"toast": "Thank you for your feedback.", "kind": "success", "vote": "down"}
