"""Conversations, messages, pushes and trying again, against a fake Feishu on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bots import intake, sweeping
from bots.models import Endpoint, Message
from monitoring.models import AuditLog
from tests import factories
from tests.bots.api.conftest import work_off
from tests.integrations.feishu.fake_feishu import CUT_AFTER, RATE_LIMITED, SEND, FakeFeishu, refused
from tests.servers.model_service import ModelService, Script

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def feishu() -> Iterator[FakeFeishu]:
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def endpoint(feishu: FakeFeishu, settings: object) -> Endpoint:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    app = {"app_id": feishu.app_id, "app_secret": feishu.app_secret, "base_url": feishu.url}
    return factories.endpoint(bot=factories.bot(slug="helper"), credential=factories.credential(**app))


def push(rest, endpoint, **body):
    return rest.post(f"/api/v1/endpoints/{endpoint.pk}/push/", body)


# -- pushes --


@pytest.mark.parametrize("kind", ["text", "markdown"])
def test_a_push_is_stored_then_sent(rest, endpoint, feishu, kind):
    response = push(rest, endpoint, chat_id="oc_1", **{kind: "news"})

    assert response.status_code == 202
    assert response.json() == {"id": str(Message.objects.get().pk), "status": "answered"}
    work_off()
    assert [(m.place, m.text) for m in feishu.messages] == [("oc_1", "news")]
    assert rest.get(f"/api/v1/messages/{response.json()['id']}/").json()["status"] == "delivered"
    assert AuditLog.objects.filter(action="message.pushed").count() == 1


def test_a_push_reaches_a_person(rest, endpoint, feishu):
    push(rest, endpoint, user_id="ou_7", text="news")

    work_off()

    assert [(m.place, m.text) for m in feishu.messages] == [("ou_7", "news")]


def test_the_same_key_twice_is_one_push(rest, endpoint, feishu):
    first, second = [push(rest, endpoint, chat_id="oc_1", text="news", idempotency_key="k") for _ in range(2)]

    work_off()

    assert first.json()["id"] == second.json()["id"]
    assert second.status_code == 202
    assert len(feishu.messages) == 1


def test_pushes_to_one_place_arrive_in_order(rest, endpoint, feishu):
    for number in range(5):
        push(rest, endpoint, chat_id="oc_1", text=str(number))

    work_off()

    assert [m.text for m in feishu.messages] == list("01234")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": "x"},
        {"chat_id": "oc_1"},
        {"chat_id": "oc_1", "text": ""},
        {"chat_id": "oc_1", "text": " \n"},
        {"chat_id": "oc_1", "user_id": "ou_1", "text": "x"},
        {"chat_id": "oc_1", "text": "x", "markdown": "x"},
        {"chat_id": "oc_1", "text": "x", "idempotency_key": "k" * 200},
    ],
)
def test_a_bad_push_is_refused(rest, endpoint, body):
    assert push(rest, endpoint, **body).status_code == 400
    assert Message.objects.count() == 0


def test_a_push_through_a_disabled_endpoint_is_refused(rest, endpoint):
    Endpoint.objects.update(is_enabled=False)

    assert push(rest, endpoint, chat_id="oc_1", text="x").status_code == 409


def test_pushing_needs_its_scope(client_with, endpoint):
    assert (
        push(client_with("messages:read", "bots:write", "chat"), endpoint, chat_id="oc_1", text="x").status_code == 403
    )
    assert push(client_with("messages:write"), endpoint, chat_id="oc_1", text="x").status_code == 202


def test_a_refused_push_fails_with_its_reason_and_can_be_tried_again(rest, endpoint, feishu):
    feishu.trouble(SEND, refused(230013))
    pk = push(rest, endpoint, chat_id="oc_1", text="news").json()["id"]
    work_off()
    failed = rest.get(f"/api/v1/messages/{pk}/").json()
    assert (failed["status"], bool(failed["error"])) == ("failed", True)

    again = rest.post(f"/api/v1/messages/{pk}/retry/")
    work_off()

    assert (again.status_code, again.json()["status"], again.json()["error"]) == (202, "answered", "")
    assert Message.objects.get().status == "delivered"
    assert [m.text for m in feishu.messages] == ["news"]
    assert AuditLog.objects.filter(action="message.retried").count() == 1


def test_a_push_that_is_slowed_down_waits_for_its_time(rest, endpoint, feishu):
    feishu.trouble(SEND, RATE_LIMITED, times=10)
    push(rest, endpoint, chat_id="oc_1", text="news")

    work_off()
    waiting = Message.objects.get()
    assert (waiting.status, waiting.next_attempt_at > timezone.now()) == ("answered", True)
    assert list(sweeping.due_pushes()) == []

    feishu._faults.clear()
    Message.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    work_off()
    assert [m.text for m in feishu.messages] == ["news"]


def test_a_push_whose_answer_was_lost_shows_once(rest, endpoint, feishu):
    feishu.trouble(SEND, CUT_AFTER)
    push(rest, endpoint, chat_id="oc_1", text="news")

    work_off()
    Message.objects.update(next_attempt_at=None)
    work_off()

    assert [m.text for m in feishu.messages] == ["news"]
    assert Message.objects.get().status == "delivered"


# -- reading --


def asked(endpoint: Endpoint, text: str = "Hello", **values: object) -> Message:
    """A person's question from Feishu, stored."""
    accepted = intake.accept(factories.draft(endpoint, text, **values)).result(10)
    return Message.objects.get(pk=accepted.message_id)


def test_a_conversation_and_its_messages_are_listed(rest, endpoint, feishu):
    question = asked(endpoint, sender_id="ou_1")
    work_off()

    listed = rest.get("/api/v1/conversations/?bot=helper&platform=feishu&user=ou_1").json()["results"]
    assert [row["id"] for row in listed] == [str(question.conversation_id)]
    reply, first = rest.get(f"/api/v1/conversations/{listed[0]['id']}/messages/").json()["results"]
    assert (first["role"], first["status"], first["text"], first["reply"]) == (
        "user",
        "delivered",
        "Hello",
        reply["id"],
    )
    assert (reply["role"], reply["text"], reply["reply_to"]) == ("assistant", "echo: Hello", first["id"])
    assert {"queue", "deliver", "total"} <= set(first["timings"])
    assert reply["completion_tokens"] > 0
    assert rest.get(f"/api/v1/messages/{first['id']}/").json() == first


@pytest.mark.parametrize("query", ["bot=other", "platform=dingtalk", "user=ou_2", "since=2100-01-01T00:00:00Z"])
def test_a_filter_leaves_others_out(rest, endpoint, query):
    asked(endpoint)

    assert rest.get(f"/api/v1/conversations/?{query}").json()["results"] == []


def test_a_list_of_messages_takes_the_same_queries_for_one_and_three(rest):
    question = factories.web_question(scope_key="one")
    path = f"/api/v1/conversations/{question.conversation_id}/messages/"
    rest.get(path)
    with CaptureQueriesContext(connection) as one:
        rest.get(path)
    for _ in range(2):
        factories.web_question(question.conversation.bot, scope_key="one")

    with CaptureQueriesContext(connection) as three:
        assert len(rest.get(path).json()["results"]) == 3

    assert len(one) == len(three)


# -- trying again --


def test_an_answer_that_did_not_arrive_is_sent_again_without_asking_the_model(rest, endpoint, feishu):
    feishu.trouble(SEND, refused(230013))
    question = asked(endpoint)
    work_off()
    question.refresh_from_db()
    reply = question.replies.get()
    shown = rest.get(f"/api/v1/messages/{reply.pk}/").json()
    assert (shown["status"], shown["error"]) == ("failed", question.error)

    again = rest.post(f"/api/v1/messages/{reply.pk}/retry/")
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (202, str(question.pk), "answered")
    work_off()

    assert [m.text for m in feishu.messages] == ["echo: Hello"]
    assert Message.objects.filter(role="assistant").get().pk == reply.pk
    question.refresh_from_db()
    assert (question.status, question.error, question.replies.get().status) == ("delivered", "", "delivered")


def test_a_question_that_the_model_failed_is_asked_again(rest, endpoint, feishu):
    with ModelService() as service:
        service.script(Script(status=401), Script(["Hello ", "again"]))
        endpoint.bot.model = factories.model(
            engine="openai", base_url=service.base_url, model="m", api_key=service.api_key
        )
        endpoint.bot.save()
        question = asked(endpoint)
        work_off()
        question.refresh_from_db()
        assert (question.status, len(feishu.messages)) == ("failed", 1)

        assert rest.post(f"/api/v1/messages/{question.pk}/retry/").json()["status"] == "received"
        work_off()

    question.refresh_from_db()
    assert (question.status, question.error, question.finish_reason) == ("delivered", "", "stop")
    assert [m.text for m in feishu.messages][1:] == ["Hello again"]
    assert [r.is_current for r in question.replies.order_by("received_at")] == [False, True]


@pytest.mark.parametrize("status", ["received", "answering", "answered", "delivered", "cancelled", "ignored"])
def test_only_what_failed_is_tried_again(rest, status):
    question = factories.web_question(status=status)

    response = rest.post(f"/api/v1/messages/{question.pk}/retry/")

    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")
    assert AuditLog.objects.filter(action="message.retried").count() == 0


def test_trying_again_needs_its_scope(client_with):
    question = factories.web_question(status="failed")

    assert client_with("messages:read", "chat").post(f"/api/v1/messages/{question.pk}/retry/").status_code == 403
    assert client_with("messages:write").post(f"/api/v1/messages/{question.pk}/retry/").status_code == 202
