"""Traces of a whole site: processes of their own, PostgreSQL, Redis, a model service, Feishu, and a receiver."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService, Script
from tests.servers.site import Site, until
from tests.servers.trace_receiver import Seen, TraceReceiver, tree

from .conftest import production_env
from .talking import Talk

pytestmark = pytest.mark.long
ROUTE = "POST webhooks/feishu/<key>"
WORKER = ("-m", "celery", "-A", "clawdbot_site", "worker", "-P", "threads", "-c", "8")


@pytest.fixture(scope="module")
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as running:
        yield running


@pytest.fixture(scope="module")
def site(
    service: ModelService, receiver: TraceReceiver, own_redis: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    made = Site(
        tmp_path_factory.mktemp("traces") / "data",
        MODEL_ENDPOINT=service.base_url,
        MODEL_API_KEY=service.api_key,
        MODEL_NAME="m",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        **production_env(own_redis),
    )
    made.data_dir.mkdir()
    try:
        yield made.start_production()
    finally:
        made.close()


def trace_with(receiver: TraceReceiver, name: str, after_ns: int) -> list[Seen]:
    """All of the newest trace that has a span of this name."""
    begun = [span for span in receiver.spans if span.name == name and span.began_ns > after_ns]
    return receiver.of_trace(begun[-1].trace_id) if begun else []


def newest_ns(receiver: TraceReceiver) -> int:
    return max((span.began_ns for span in receiver.spans), default=0)


def test_one_question_is_one_trace_over_all_processes_and_holds_no_secret(
    site: Site, feishu: FakeFeishu, service: ModelService, receiver: TraceReceiver
) -> None:
    talk = Talk(site, feishu, reply_mode="stream")
    service.script(Script(["canary-answer ", "more"], piece_s=0.5))
    before_ns = newest_ns(receiver)

    assert talk.say("canary-question").status_code == 200

    until(lambda: any("more" in text for text in talk.texts()), "nobody sees an answer")
    spans = until(lambda: trace_with(receiver, "deliver", before_ns), "no trace of the delivery came")
    until(lambda: ROUTE in tree(receiver.of_trace(spans[0].trace_id)), "the request's span never came")
    spans = receiver.of_trace(spans[0].trace_id)
    found = tree(spans)
    assert found[""] == [ROUTE]
    assert found[ROUTE] == ["store", "wait in queue", "answer", "deliver"]
    assert [name for name in found["answer"] if not name.startswith("feishu")] == ["prompt", "model"]
    assert {"feishu create card", "feishu reply"} <= {*found["answer"], *found["deliver"]}
    assert {span.name for span in spans if span.role == "site"} == {ROUTE, "store"}
    assert {span.role for span in spans if span.name not in (ROUTE, "store")} == {"worker"}
    assert {span.attributes["clawdbot.step"] for span in spans if span.name == "feishu create card"} == {"card"}
    [model] = [span for span in spans if span.name == "model"]
    assert service.requests[-1].headers["traceparent"].split("-")[1:3] == [model.trace_id, model.span_id]

    sent = b"".join(body for _path, _headers, body in receiver.calls)
    secrets = [talk.secret, feishu.app_secret, str(talk.endpoint["key"]), service.api_key, site.env["SECRET_KEY"]]
    assert [text for text in [*secrets, "canary", "ou_e2e", "oc_e2e", "om_"] if text.encode() in sent] == []


def test_the_try_after_a_killed_worker_lands_in_the_same_trace(
    site: Site, feishu: FakeFeishu, service: ModelService, receiver: TraceReceiver
) -> None:
    talk = Talk(site, feishu, reply_mode="text")
    service.script(Script(wait_s=60), Script(["at last"]))
    before_ns, asked = newest_ns(receiver), len(service.requests)
    talk.say("Hello")
    until(lambda: len(service.requests) > asked, "the model is not asked")
    until(lambda: trace_with(receiver, "wait in queue", before_ns), "nothing came of the first try")

    worker = site.processes.pop(1)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(10)
    site.spawn(*WORKER, "-Q", "inference", "-n", "inference@%h")

    until(lambda: talk.texts() == ["at last"], "the answer never came", 90)
    spans = until(lambda: trace_with(receiver, "deliver", before_ns), "no trace of the delivery came")
    waits = [span for span in spans if span.name == "wait in queue"]
    assert [span.attributes["clawdbot.attempt"] for span in waits] == [1, 2]
    assert waits[0].resource["service.instance.id"] != waits[1].resource["service.instance.id"]
    assert [span.attributes["clawdbot.attempt"] for span in spans if span.name == "answer"] == [2]
