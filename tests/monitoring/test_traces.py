"""Traces as such: whose trace a request continues, what is sampled, what becomes of a receiver that is down."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured

from clawdbot_site.settings import traces
from monitoring import logs, metrics, tracing
from monitoring.ids import uuid7
from monitoring.tracing import exporting, ids
from tests.servers.site import ROOT, until
from tests.servers.trace_receiver import TraceReceiver, reachable, tree

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROXY = "10.9.8.7"


@pytest.fixture
def receiver(settings: Any) -> Iterator[TraceReceiver]:
    settings.TRUSTED_PROXIES = [PROXY]
    with reachable(settings) as running:
        yield running


@pytest.fixture
def start(receiver: TraceReceiver, settings: Any) -> Any:
    def begin(**changed: Any) -> None:
        settings.TRACES = receiver.config(**changed)
        tracing.start("site")

    return begin


def visit(details: dict[str, Any], peer: str = PROXY, traceparent: str = FOREIGN, says: str = "") -> UUID:
    """A request that brings a message; it logs ``says`` before."""
    message_id = uuid7()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        metrics.name_route(scope, "hooks/<key>")
        if says:
            logs.RedactingJsonFormatter().format(logging.makeLogRecord({"msg": says}))
        if storing := tracing.storing(details):
            storing.done(message_id, uuid7(), is_new=True)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(event: Any) -> None:
        pass

    headers = [(b"traceparent", traceparent.encode())] if traceparent else []
    scope = {"type": "http", "path": "/api/v1/hooks/canary-key/", "method": "POST", "headers": headers}
    asyncio.run(metrics.HttpMetrics(application)({**scope, "client": (peer, 1)}, None, send))  # type: ignore[arg-type]
    return message_id


def test_a_proxy_of_ours_hands_its_trace_on_and_the_message_joins_it(start, receiver):
    start()
    visit(details := {})
    tracing.end()

    spans = receiver.of_trace(FOREIGN.split("-")[1])
    assert tree(spans) == {"": ["POST hooks/<key>"], "POST hooks/<key>": ["store"]}
    assert spans[0].parent_id == FOREIGN.split("-")[2]
    assert details["traceparent"].split("-")[1:3] == [spans[0].trace_id, spans[0].span_id]


def test_nobody_else_chooses_our_traces(start, receiver):
    start()
    message_id = visit(details := {}, peer="10.9.8.8")
    tracing.end()

    assert (details, {span.trace_id for span in receiver.spans}) == ({}, {ids.trace_id(message_id)})


def test_log_lines_carry_the_ids_under_which_the_span_is_found(start, receiver):
    start()
    with tracing.of_message(uuid7(), uuid7(), {}), tracing.span("answer"):
        line = json.loads(logs.RedactingJsonFormatter().format(logging.makeLogRecord({"msg": "hello"})))
    tracing.end()
    off = json.loads(logs.RedactingJsonFormatter().format(logging.makeLogRecord({"msg": "hello"})))

    [span] = receiver.spans
    assert (line["trace_id"], line["span_id"]) == (span.trace_id, span.span_id)
    assert "trace_id" not in off


def test_a_request_that_logged_before_its_message_came_keeps_its_ids(start, receiver):
    start()
    visit(details := {}, traceparent="", says="hello")
    tracing.end()

    assert tree(receiver.spans) == {"": ["POST hooks/<key>"], "POST hooks/<key>": ["store"]}
    assert details["traceparent"].split("-")[1] == receiver.spans[0].trace_id


def test_a_share_of_the_messages_is_sampled_and_each_of_them_whole(start, receiver):
    """Ids of version 7 would all be sampled, or none: their fixed bits stand where samplers look for chance."""
    start(sampler="parentbased_traceidratio", ratio=0.5)
    for _ in range(200):
        with tracing.of_message(uuid7(), uuid7(), {}), tracing.span("answer"), tracing.span("model"):
            pass
    tracing.end()

    names = [span.name for span in receiver.spans]
    assert 60 < names.count("answer") < 140
    assert names.count("model") == names.count("answer")


def test_what_a_span_is_told_is_redacted(start, receiver):
    start(secret_headers={"authorization": "Bearer canary-header"})
    with tracing.of_message(uuid7(), uuid7(), {}), tracing.span("answer", bot="token=canary-0123456789abcdef"):
        pass
    tracing.end()

    [(path, headers, body)] = receiver.calls
    assert (path, headers["authorization"]) == ("/v1/traces", "Bearer canary-header")
    assert b"canary" not in body
    assert receiver.spans[0].resource | {"service.instance.id": ""} == {
        **{name: value for name, value in receiver.spans[0].resource.items() if name.startswith("telemetry.")},
        "service.name": "clawdbot",
        "service.version": "1.2",
        "service.instance.id": "",
        "clawdbot.role": "site",
    }


def test_a_receiver_that_was_away_gets_its_spans_and_one_that_refuses_does_not(start, receiver, caplog):
    before = metrics.SPANS_DROPPED._value.get()
    receiver.statuses = [503, 400]
    start()
    with tracing.of_message(uuid7(), uuid7(), {}), tracing.span("refused"):
        pass
    until(lambda: len(receiver.calls) == 2, "what the receiver could not take is not sent again")
    until(lambda: metrics.SPANS_DROPPED._value.get() - before == 1, "what it refused is not counted")
    with tracing.of_message(uuid7(), uuid7(), {}), tracing.span("taken"):
        pass
    tracing.end()

    assert [span.name for span in receiver.spans] == ["taken"]
    assert [line.reason for line in caplog.records if "not taken" in line.message] == ["HTTP 503"]


def test_a_receiver_that_is_down_costs_nothing_and_drops_are_counted(start, receiver, monkeypatch):
    monkeypatch.setattr(exporting, "LAST_WORDS_S", 0.1)
    monkeypatch.setattr(exporting, "MOST_WAITING", 50)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    before = metrics.SPANS_DROPPED._value.get()
    start(endpoint=f"http://127.0.0.1:{port}/v1/traces")

    began = time.monotonic()
    for _ in range(1_000):
        with tracing.of_message(uuid7(), uuid7(), {}), tracing.span("answer"):
            pass
    took_s = time.monotonic() - began
    tracing.end()

    assert took_s < 5
    until(lambda: metrics.SPANS_DROPPED._value.get() - before == 1_000, "what is lost is not counted")


# -- settings --

LOADED = """
import sys, django
django.setup()
import clawdbot_site.asgi, clawdbot_site.celery, bots.tasks
from monitoring import tracing
tracing.start("site")
with tracing.span("answer"):
    ours = "opentelemetry.sdk.trace", "opentelemetry.exporter", "google.", "monitoring.tracing.recording"
    print([name for name in sys.modules if name.startswith(ours)])
"""


def test_off_nothing_that_traces_need_is_loaded(tmp_path):
    """redis-py loads OpenTelemetry's metrics by itself where the package happens to be installed."""
    own = {"CLAWDBOT_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.test"}
    env = {**own, **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}}
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr[-2000:]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "20", "a share from 0 to 1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "canary", "authorization=Bearer"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file", "/no/such/file holds no certificate that can be read"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", __file__, "holds no certificate that can be read"),
        ("TRACE_URL", "https://jaeger/trace/", "{trace_id}"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_what_to_write(monkeypatch, name, value, words):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as caught:
        assert not (traces.config(), traces.page())

    assert words in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_standard_variables_are_read(monkeypatch):
    assert traces.config() == {}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example.com:4318/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc,x-team=chat")
    config = traces.config()

    assert config["endpoint"] == "https://collector.example.com:4318/v1/traces"
    assert config["secret_headers"] == {"authorization": "Bearer abc", "x-team": "chat"}
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert traces.config() == {}
