"""One message, one trace: what a person who looks at it sees. The platform and the receiver are real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bots import drafts, intake, pushes, turns
from bots.models import Endpoint, Message
from monitoring import tracing
from monitoring.tracing import ids
from tests import factories
from tests.integrations.dingtalk.fake_dingtalk import SESSION, TO_USER
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService
from tests.servers.trace_receiver import Seen, TraceReceiver, reachable, tree

from .callbacks import feishu_event, path_of, post
from .conftest import work_off
from .test_statement_count import ANSWERED, statements

pytestmark = pytest.mark.django_db(transaction=True)
ROUTE = "POST webhooks/feishu/<key>"


@pytest.fixture
def traces(settings: Any) -> Iterator[TraceReceiver]:
    """Traces are on."""
    with reachable(settings) as receiver:
        settings.TRACES = receiver.config()
        tracing.start("test")
        yield receiver


def found(traces: TraceReceiver, question: Message) -> list[Seen]:
    tracing.end()
    return traces.of_trace(ids.trace_id(question.pk, question.details.get("traceparent", "")))


def test_a_message_is_one_trace_from_the_door_to_the_platform(traces, on_dingtalk, says):
    question = says(on_dingtalk(), "Hello")
    work_off(question)

    spans = found(traces, question)
    by_name = {span.name: span for span in spans}
    assert tree(spans) == {
        "": ["store"],
        "store": ["wait in queue", "answer", "deliver"],
        "answer": ["prompt", "model"],
        "deliver": ["dingtalk session"],
    }
    assert {span.attributes["clawdbot.message_id"] for span in spans} == {str(question.pk)}
    assert {span.attributes["clawdbot.conversation_id"] for span in spans} == {str(question.conversation_id)}
    call, model = by_name["dingtalk session"].attributes, by_name["model"].attributes
    assert (call["http.response.status_code"], call["clawdbot.step"]) == (200, "part-1")
    assert model["gen_ai.usage.output_tokens"] == question.completion_tokens > 0
    assert by_name["model"].events == ["first token"]


async def test_the_request_that_brought_a_message_begins_its_trace_and_a_repeat_is_found_by_the_message(traces):
    endpoint = await database_sync_to_async(lambda: factories.endpoint(credential=factories.credential("feishu")))()
    event = feishu_event(endpoint, "Hello")

    assert [(await post(path_of(endpoint), *event))[0] for _ in range(2)] == [200, 200]

    question = await Message.objects.aget(role="user")
    first, repeat = [span for span in (tracing.end(), traces.spans)[1] if span.name == ROUTE]
    assert tree(traces.of_trace(ids.trace_id(question.pk))) == {"": [ROUTE], ROUTE: ["store"]}
    assert (first.parent_id, first.attributes["http.response.status_code"]) == ("", 200)
    assert repeat.attributes["clawdbot.message_id"] == first.attributes["clawdbot.message_id"] == str(question.pk)


def test_what_another_thread_shows_while_the_model_thinks_belongs_to_the_answer(traces, settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with FakeFeishu() as feishu:
        app = {"app_id": feishu.app_id, "app_secret": feishu.app_secret, "base_url": feishu.url}
        endpoint = factories.endpoint(credential=factories.credential("feishu", **app))
        question = asked(endpoint)
        work_off(question)

    spans = found(traces, question)
    [sign] = [span for span in spans if span.name == "feishu add reaction"]
    assert "feishu add reaction" in tree(spans)["answer"]
    assert sign.attributes["clawdbot.step"] == "typing"


def asked(endpoint: Endpoint) -> Message:
    item = drafts.draft(endpoint, factories.incoming("Hello"))
    assert item
    return Message.objects.get(pk=intake.accept(item).result(10).message_id)


def test_a_push_has_a_trace_of_its_own(traces, on_dingtalk):
    push = pushes.accept(on_dingtalk(), "Hello", user_id="staff0001")
    pushes.work(push.conversation_id)

    assert tree(found(traces, push)) == {"": ["store"], "store": ["deliver"], "deliver": ["dingtalk batchSend"]}


def test_a_try_after_a_crash_lands_in_the_same_trace(traces, on_dingtalk, says):
    question = says(on_dingtalk(), "Hello")
    Message.objects.filter(pk=question.pk).update(status="answering", attempts=1)  # as a killed worker leaves it

    work_off(question)

    answers = [span for span in found(traces, question) if span.name == "answer"]
    assert [span.attributes["clawdbot.attempt"] for span in answers] == [2]


def test_a_model_service_is_told_of_the_trace(traces, settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as service:
        model = factories.model(engine="openai", base_url=service.base_url, model="m", api_key=service.api_key)
        question = factories.web_question(factories.bot(model=model), "Hello")
        work_off(question)
        [asked] = service.requests

    [span] = [span for span in found(traces, question) if span.name == "model"]
    assert asked.headers["traceparent"].split("-")[1:3] == [span.trace_id, span.span_id]


def test_what_fails_is_seen_and_a_later_try_is_a_further_span(traces, on_dingtalk, says, dingtalk_app):
    dingtalk_app.fail(SESSION, (500, {}))
    dingtalk_app.fail(TO_USER, (503, {"code": "ServiceUnavailable", "message": "canary-no"}))
    question = says(on_dingtalk(), "Hello")
    work_off(question)
    Message.objects.filter(pk=question.pk).update(next_attempt_at=None)
    work_off(question)

    spans = found(traces, question)
    calls = [
        (s.attributes["clawdbot.step"], s.attributes["http.response.status_code"], s.is_failed)
        for s in spans
        if s.name.startswith("dingtalk")
    ]
    assert calls == [("part-1", 500, True), ("part-1-api", 503, True), ("part-1-api", 200, False)]
    assert [span.attributes["clawdbot.outcome"] for span in spans if span.name == "deliver"] == [
        "answered",
        "delivered",
    ]
    assert question.status == "delivered"


def test_a_model_that_fails_is_seen_as_failed(traces):
    broken = factories.bot(model=factories.model(engine="transformers", path="/no/such/folder"))
    question = factories.web_question(broken)
    work_off(question)

    assert {span.name for span in found(traces, question) if span.is_failed} == {"model"}


def test_neither_words_nor_people_nor_secrets_are_sent(traces, on_dingtalk, says):
    endpoint = on_dingtalk()
    question = says(endpoint, "canary-words", sender_name="canary-name")
    work_off(question)

    found(traces, question)
    sent = b"".join(body for _path, _headers, body in traces.calls)
    planted = ["canary", "staff0001", "cid1", endpoint.key, endpoint.credential.app_secret, question.session_url]
    assert b"store" in sent
    assert [secret for secret in planted if secret.encode() in sent] == []


def test_traces_cost_no_statement_and_leave_nothing_in_the_database(on_dingtalk, says, traces):
    endpoint = on_dingtalk()
    work_off(says(endpoint, "the first one of a conversation costs more"))
    question = says(endpoint, "the second")

    with CaptureQueriesContext(connection) as answered:
        turns.work(question.conversation_id, may_answer=True)

    assert len(statements(answered)) <= ANSWERED
    assert "traceparent" not in json.dumps([row.details for row in Message.objects.all()])
