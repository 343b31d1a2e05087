"""How long the remote engine waits for a service, and that waiting can be ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import pytest

from inference.base import ChatMessage, GenRequest
from inference.engines.openai import OpenAIEngine
from tests.servers.model_service import Script

from .asking import answer, ask, ids


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "it never happened"
        time.sleep(0.02)


def test_no_first_token_in_time(make_engine, service):
    service.script(Script(["never"], stall_after=0, keeps_alive_by_comments=True))
    began_at = time.monotonic()

    result = answer(make_engine(first_token_timeout_s=0.5))

    assert (result.finish, result.error) == ("error", "the service sent no text in time")
    assert time.monotonic() - began_at < 1.5
    assert service.requests[0].left.wait(1)


def test_a_request_can_be_less_patient_than_its_engine(engine, service):
    service.script(Script(["never"], wait_s=30))
    began_at = time.monotonic()

    request = GenRequest(next(ids), (ChatMessage("user", "hello"),), first_token_s=0.5)
    result = engine.submit(request).result()

    assert (result.finish, result.error) == ("error", "the service sent no text in time")
    assert time.monotonic() - began_at < 1.5


def test_silence_between_tokens(make_engine, service):
    service.script(Script(["begun", "never"], stall_after=1))

    result = answer(make_engine(between_tokens_timeout_s=0.5))

    assert (result.text, result.finish) == ("begun", "error")
    assert service.requests[0].left.wait(1)


def test_a_slow_reader_is_not_the_services_fault(make_engine, service):
    service.script(Script(["a", *"bcdefgh"], piece_s=0.3))
    reply = make_engine(between_tokens_timeout_s=0.7).submit(ask())

    for delta in reply:
        if delta.text == "b":
            time.sleep(1.2)

    assert reply.result().text == "abcdefgh"


@pytest.mark.parametrize("script", [Script(wait_s=30), Script(["a"], stall_after=0), Script(["a", "b"], stall_after=1)])
def test_cancel_wakes_a_blocked_read(engine, service, script):
    service.script(Script(status=503), script)  # the second try must not hide on the first one's connection
    reply = engine.submit(ask())
    finishes: list[str | None] = []
    reader = threading.Thread(target=lambda: finishes.extend(d.finish for d in reply if d.finish))
    reader.start()
    wait_until(lambda: len(service.requests) == 2)
    time.sleep(0.2)

    began_at = time.monotonic()
    reply.cancel()
    reader.join(5)

    assert finishes == ["cancelled"]
    assert time.monotonic() - began_at < 3
    assert service.requests[-1].left.wait(1), "the service goes on"


def test_cancel_and_deadline_while_waiting_for_a_retry(engine, service):
    service.script(Script(status=429, headers={"Retry-After": "15"}))
    reply = engine.submit(ask())
    threading.Timer(0.3, reply.cancel).start()
    began_at = time.monotonic()

    assert reply.result().finish == "cancelled"
    assert engine.submit(ask(deadline_s=0.5)).result().finish == "deadline"
    assert time.monotonic() - began_at < 2


def test_a_transport_without_sockets_is_tolerated():
    body = 'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    with httpx.Client(transport=transport) as http:
        reply = OpenAIEngine("http://model.test/v1", "m", "k", http).submit(ask())
        first = next(iter(reply))
        reply.cancel()

        assert (first.text, reply.result().finish) == ("hi", "cancelled")
