"""What can go wrong in a turn: nothing is stuck for ever, answered twice, or lost behind another."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from bots import answering, doorbell, intake, leases, notices, sweeping, turns
from bots.errors import LeaseLost
from bots.models import Conversation, Message
from inference.base import Delta, Engine, EngineStats, GenRequest, Reply, Result, Timings, Usage
from inference.errors import QueueFull
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


class ScriptedReply(Reply):
    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def __iter__(self):
        yield Delta(self._text)
        yield Delta(finish="stop")

    def result(self) -> Result:
        return Result(self._text, Usage(1, 1), "stop", Timings())


class ScriptedEngine(Engine):
    """Answers with a text, or raises what it was given."""

    def __init__(self, outcome: str | Exception) -> None:
        self.outcome = outcome

    def submit(self, request: GenRequest) -> Reply:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return ScriptedReply(self.outcome)

    def stats(self) -> EngineStats:
        return EngineStats()

    def drain(self, deadline_s: float) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def engine(monkeypatch):
    made = ScriptedEngine("fine")
    monkeypatch.setattr(answering, "engine_of", lambda model: made)
    return made


def work(question: Message) -> Message:
    Message.objects.filter(pk=question.pk).update(next_attempt_at=None)
    turns.work(question.conversation_id, may_answer=True)
    question.refresh_from_db()
    return question


def test_standing_in_line_for_a_full_engine_is_no_attempt(engine):
    engine.outcome, question = QueueFull("busy"), factories.web_question()

    for _ in range(notices.MOST_ATTEMPTS + 5):
        work(question)

    assert (question.status, question.attempts) == ("answering", 0)
    engine.outcome = "now"
    assert work(question).status == "delivered"


def test_an_unexpected_error_is_tried_again_later(engine):
    engine.outcome, question = RuntimeError("a bug"), factories.web_question()

    work(question)

    assert question.next_attempt_at > timezone.now()
    assert "RuntimeError" in question.details["last_trouble"]
    engine.outcome = "mended"
    assert work(question).replies.get().text == "mended"


def test_a_question_that_breaks_for_days_is_given_up_with_its_reason(engine):
    engine.outcome, question = RuntimeError("a bug"), factories.web_question(bot_that_never_is_too_late())
    Message.objects.filter(pk=question.pk).update(received_at=timezone.now() - timedelta(days=4))

    work(question)

    assert (question.status, question.error) == ("failed", "unexpected RuntimeError")


def bot_that_never_is_too_late():
    return factories.bot(too_late_after_s=10 * 24 * 3600)


@pytest.mark.parametrize("text", ["a\0b", "lone \ud800 surrogate"], ids=["NUL", "surrogate"])
def test_what_a_database_cannot_hold_does_not_fail_the_answer(engine, text):
    engine.outcome = text

    question = work(factories.web_question())

    assert question.status == "delivered"
    assert "\0" not in question.replies.get().text


def test_a_holder_whose_claim_lapsed_unnoticed_stops_itself():
    conversation = factories.web_question().conversation
    with leases.hold(conversation.pk) as lease:
        lease.good_until_s = time.monotonic() - 1  # as if the watcher had not run

        with pytest.raises(LeaseLost):
            lease.check()


def test_a_caller_who_leaves_does_not_stop_the_intake():
    endpoint = factories.endpoint()
    left = intake.accept(factories.draft(endpoint, "left"))

    assert left.cancel() is False
    assert intake.accept(factories.draft(endpoint, "next")).result(10).is_new
    assert Message.objects.count() == 2


def test_what_waits_behind_a_postponed_question_does_not_crowd_out_the_sweeper(monkeypatch):
    monkeypatch.setattr(sweeping, "MOST", 3)
    old, bot = timezone.now() - timedelta(minutes=5), factories.bot()
    factories.web_question(
        bot, scope_key="busy", received_at=old, next_attempt_at=timezone.now() + timedelta(minutes=5)
    )
    for _ in range(5):
        factories.web_question(bot, scope_key="busy", received_at=old + timedelta(seconds=1))
    lost = factories.web_question(bot, scope_key="lost", received_at=old + timedelta(seconds=2))

    assert [found for found, _, _ in sweeping.questions()] == [lost.conversation_id]


def group_question(**details: object) -> Message:
    endpoint = factories.endpoint()
    conversation = Conversation.objects.create(
        bot=endpoint.bot, endpoint=endpoint, platform="feishu", source=endpoint.pk.hex, scope_key="g"
    )
    given = {"target": {"chat_id": "oc_1", "chat_type": "group"}, **details}
    return Message.objects.create(
        conversation=conversation, role="user", platform="feishu", app_id="a", text="hi", details=given
    )


def test_a_message_known_to_be_for_somebody_else_is_ignored_even_after_a_crash():
    question = work(group_question(is_addressed=False))

    assert (question.status, question.replies.count()) == ("ignored", 0)


def test_a_queue_that_nobody_serves_does_not_keep_the_others_waiting(monkeypatch):
    monkeypatch.setattr(sweeping, "MOST", 3)
    old = timezone.now() - timedelta(minutes=5)
    orphan = factories.bot(model=factories.model(queue="nobody"))
    for _ in range(5):
        factories.web_question(orphan, received_at=old)
    served = factories.web_question(received_at=old + timedelta(seconds=9))

    found = list(sweeping.questions())

    assert [queue for _, queue, _ in found].count("nobody") == 3
    assert (served.conversation_id, "inference", True) in found


def test_many_messages_of_one_conversation_are_one_ring():
    bot, old = factories.bot(), timezone.now() - timedelta(minutes=5)
    for _ in range(5):
        factories.web_question(bot, scope_key="busy", received_at=old)

    assert len(list(sweeping.questions())) == 1


def test_the_sweeper_adds_no_rings_to_a_long_queue(monkeypatch):
    monkeypatch.setattr(doorbell, "_length", lambda name: doorbell.MOST_QUEUED - 2)
    room = doorbell.Room()

    assert [room.takes("inference") for _ in range(4)] == [True, True, False, False]
