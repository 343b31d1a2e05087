"""What a person says to the machinery: answered without the model, in order, and not remembered."""

from __future__ import annotations

import pytest

from bots import answering, inbound, intake
from bots.commands import command_in
from bots.models import Message
from tests import factories
from tests.bots.conftest import work_off
from tests.servers.model_service import ModelService

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/help", "help"),
        (" /NEW ", "new"),
        ("/停止", "stop"),
        ("／状态", "status"),
        ("@Bot /new", "new"),
        ("@Bot @_user_2  /stop", "stop"),
        ("/model", "model"),
        ("/模型 fast one", "model"),
        ("/status now", None),
        ("/helpme", None),
        ("stop", None),
        ("Tell me what /help does", None),
    ],
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


# -- the choice of a model --


@pytest.fixture
def choosing(on_dingtalk):
    """An endpoint whose bot offers a second model, "fast"; a third one is on another queue."""
    endpoint = on_dingtalk({"model": factories.model(name="good")})
    fast = factories.model(name="fast")
    endpoint.bot.choosable_models.set([fast, factories.model(name="elsewhere", queue="gpu2")])
    return endpoint


def answers(dingtalk_app) -> list[str]:
    return [text for _way, text in dingtalk_app.seen]


def test_model_lists_what_can_be_chosen(choosing, says, dingtalk_app):
    work_off(says(choosing, "/model"))

    assert answers(dingtalk_app) == ["Models:\n\n- good (in use)\n- fast\n\nChoose one with /model NAME."]


def test_a_chosen_model_answers_in_this_conversation_only(choosing, says, dingtalk_app):
    work_off(says(choosing, "/model FAST"), says(choosing, "/status"), says(choosing, "/status", chat="cid2"))

    told, here, elsewhere = answers(dingtalk_app)
    assert told == "From now on I use fast in this conversation."
    assert ("Model: fast" in here, "Model: good" in elsewhere) == (True, True)


@pytest.mark.parametrize("name", ["elsewhere", "unknown"])
def test_a_model_that_is_not_offered_cannot_be_chosen(choosing, says, dingtalk_app, name):
    work_off(says(choosing, f"/model {name}"), says(choosing, "/status"))

    refused, status = answers(dingtalk_app)
    assert refused.startswith("There is no model of this name here.")
    assert "Model: good" in status


def test_a_model_that_was_withdrawn_answers_no_more(choosing, says, dingtalk_app):
    work_off(says(choosing, "/model fast"))
    choosing.bot.choosable_models.clear()

    work_off(says(choosing, "/status"))

    assert "Model: good" in answers(dingtalk_app)[1]


def test_the_chosen_model_is_the_one_that_is_asked(choosing, says, dingtalk_app):
    with ModelService() as service:
        picked = factories.model(
            name="picked", engine="openai", base_url=service.base_url, model="m", api_key=service.api_key
        )
        choosing.bot.choosable_models.add(picked)
        work_off(says(choosing, "/model picked"), says(choosing, "Hello"))

        assert len(service.requests) == 1


def test_without_a_choice_it_says_so_and_help_does_not_name_it(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk()

    work_off(says(endpoint, "/model"), says(endpoint, "/help"))

    told, helped = answers(dingtalk_app)
    assert told == f"There is no choice of models here. I use {endpoint.bot.model.name}."
    assert "/model" not in helped


def test_help_names_the_choice_and_what_can_be_sent(choosing, says, dingtalk_app):
    work_off(says(choosing, "/help"))

    (helped,) = answers(dingtalk_app)
    assert "/model NAME" in helped
    assert "PDF" in helped


def test_the_bot_may_be_named_before_a_command(on_dingtalk, says, dingtalk_app):
    work_off(says(on_dingtalk({"name": "Ada"}), "@Ada /status"))

    assert answers(dingtalk_app)[0].startswith("Bot: Ada")
