"""What a person says to the machinery: answered without the model, in order, and not remembered."""

from __future__ import annotations

import pytest

from bots import answering, inbound, intake
from bots.commands import command_in
from bots.models import Message
from tests import factories
from tests.bots.conftest import work_off

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("text", "command"),
    [("/help", "help"), (" /NEW ", "new"), ("/停止", "stop"), ("/status", "status"), ("/helpme", None), ("stop", None)],
)
def test_only_a_whole_command_is_one(text, command):
    assert command_in(text) == command


def test_help_names_every_command_without_asking_the_model(on_dingtalk, says, dingtalk_app):
    work_off(says(on_dingtalk(), "/help"))

    (_, shown), *more = dingtalk_app.seen
    assert not more
    assert all(name in shown for name in ("/new", "/stop", "/status", "/help"))


def test_status_names_the_bot_and_its_model(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk({"name": "Ada"})

    work_off(says(endpoint, "/status"))

    assert f"Bot: Ada\nModel: {endpoint.bot.model.name}" in dingtalk_app.seen[0][1]


def test_new_forgets_what_was_said_and_commands_are_never_remembered(on_dingtalk, says):
    endpoint = on_dingtalk()
    work_off(says(endpoint, "before"), says(endpoint, "/new"))
    work_off(says(endpoint, "after"), says(endpoint, "/help"))

    question = says(endpoint, "now")

    assert [turn.text for turn in answering.history(question, endpoint.bot)] == ["after", "echo: after"]


def test_stop_cancels_what_waits_there_and_nowhere_else(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk()
    here, elsewhere = says(endpoint, "here"), says(endpoint, "elsewhere", chat="cid2")

    item = inbound.handle(endpoint, factories.incoming("/stop", chat_id="cid1", sender_id="staff0001")).draft

    here.refresh_from_db()
    elsewhere.refresh_from_db()
    assert (here.cancel_requested_at is not None, elsewhere.cancel_requested_at) == (True, None)
    assert item.details["stopped"] == 1


def test_a_repeated_stop_does_not_stop_the_next_question(on_dingtalk, says):
    endpoint = on_dingtalk()
    stop = factories.incoming("/stop", chat_id="cid1", sender_id="staff0001", message_id="m-stop")
    intake.accept(inbound.handle(endpoint, stop).draft).result(10)
    later = says(endpoint, "later")

    inbound.handle(endpoint, stop)

    assert Message.objects.get(pk=later.pk).cancel_requested_at is None


def test_the_person_is_told_whether_something_was_stopped(on_dingtalk, says, dingtalk_app):
    work_off(says(on_dingtalk(), "/stop"))

    assert dingtalk_app.seen[0][1] == "There is nothing to stop."
