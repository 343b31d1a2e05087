"""A bot with two models: who answers, what the person sees, and what an admin can read afterwards."""

from __future__ import annotations

import threading
import time

import pytest

from bots import fallback, leases, turns, workers
from bots.errors import LeaseLost
from bots.models import Message
from inference import worker
from monitoring.models import AuditLog
from tests import factories
from tests.bots.conftest import work_off
from tests.servers.model_service import ModelService, Script

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def services(settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as first, ModelService() as second:
        yield first, second
    worker.close_all()


@pytest.fixture
def bot(services):
    first, second = (
        factories.model(name=name, engine="openai", base_url=service.base_url, model="m", api_key=service.api_key)
        for name, service in zip(("first", "second"), services, strict=True)
    )
    return factories.bot(model=first, fallback_model=second)


def answer_to(bot, text="hello", **values) -> Message:
    question = factories.web_question(bot, text, **values)
    work_off(question)
    return question.replies.get(is_current=True)


def test_the_first_model_answers_while_it_can(bot, services):
    reply = answer_to(bot)

    assert (reply.text, reply.details["model"]) == ("echo: hello", "first")
    assert "fallback_from" not in reply.details
    assert services[1].requests == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(status=401, body="{}"), "the service refused the API key"),
        (Script(status=400, body='{"error": "context length exceeded"}'), "the service refused the request: context"),
        (Script([{"reasoning_content": "hm"}]), "the model returned no text, only thoughts"),
    ],
)
def test_the_other_one_answers_when_nothing_was_shown_and_it_can_be_read_why(bot, services, script, reason):
    services[0].script(script)

    reply = answer_to(bot)

    assert (reply.text, reply.details["model"]) == ("echo: hello", "second")
    assert reply.details["fallback_from"]["model"] == "first"
    assert reply.details["fallback_from"]["reason"].startswith(reason)
    assert reply.reply_to.status == "delivered"
    entry = AuditLog.objects.get(action="model.fallback_used")
    assert (entry.outcome, entry.reason) == ("failure", "second answered instead of first")


def test_an_answer_that_was_begun_is_not_begun_anew(bot, services):
    services[0].script(Script(["begun ", "lost"], cut_after=1))

    reply = answer_to(bot)

    assert reply.text.startswith("begun ")
    assert "Sorry" in reply.text
    assert services[1].requests == []


def test_a_content_filter_is_not_gone_round(bot, services):
    services[0].script(Script(["", ""], finish="content_filter"))

    assert "Sorry" in answer_to(bot).text
    assert services[1].requests == []


def test_when_both_fail_the_person_gets_one_polite_sentence_and_the_admin_both_reasons(bot, services):
    for service in services:
        service.script(Script(status=401, body="{}"))

    reply = answer_to(bot)

    assert reply.text == "Sorry, I cannot answer right now. Please ask me again later."
    question = reply.reply_to
    assert question.status == "failed"
    assert question.error == ("first: the service refused the API key - second: the service refused the API key")


def test_a_silent_first_model_is_given_up_sooner(bot, services, monkeypatch):
    monkeypatch.setattr(fallback, "FIRST_PATIENCE_S", 0.5)
    services[0].script(Script(["never"], stall_after=0))
    began_at = time.monotonic()

    assert answer_to(bot).text == "echo: hello"
    assert time.monotonic() - began_at < 3


def test_pictures_do_not_go_to_a_model_that_cannot_see(bot, services):
    services[0].script(Script(status=401, body="{}"))
    picture = "iVBORw0KGgo="
    asked = {"request": {"messages": [{"role": "user", "text": "what?", "images": [picture]}]}}

    reply = answer_to(bot, details=asked)

    assert "Sorry" in reply.text
    assert services[1].requests == []


def test_a_question_of_a_worker_that_ends_waits_for_another_one(bot, services):
    worker.drain_all(0.1)
    question = factories.web_question(bot)

    turns.work(question.conversation_id, may_answer=True)

    question.refresh_from_db()
    assert question.status in ("received", "answering")
    worker.close_all()  # as a new process begins
    work_off(question)
    assert question.status == "delivered"


def test_an_answer_that_a_worker_cuts_at_its_end_is_begun_anew_elsewhere(bot, services):
    services[0].script(Script(["begun "] * 3, stall_after=1), Script(["whole"]))
    question = factories.web_question(bot)
    working = threading.Thread(target=turns.work, args=(question.conversation_id,), kwargs={"may_answer": True})
    working.start()
    while not services[0].requests or not services[0].requests[0].written_at:
        time.sleep(0.01)

    worker.drain_all(0.2)
    working.join(10)
    worker.close_all()
    work_off(question)

    assert question.status == "delivered"
    assert question.replies.get(is_current=True).text == "whole"


def test_a_delivery_under_way_keeps_its_lease_while_a_worker_ends(monkeypatch):
    monkeypatch.setattr(workers, "DRAIN_S", 0.4)
    question = factories.web_question()
    with leases.hold(question.conversation_id) as lease:
        ending = threading.Thread(target=workers.drain, args=(threading.Event(),))
        ending.start()
        time.sleep(0.1)
        lease.check()
        ending.join(5)

        with pytest.raises(LeaseLost):
            lease.check()
    worker.close_all()
