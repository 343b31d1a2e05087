"""The inbound hook: pushes and questions, with the key alone or signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest
from rest_framework.test import APIClient

from bots.api import hooks
from bots.models import Endpoint, Message
from monitoring import audit
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint()


def call(endpoint: Endpoint | str, body: object, headers: dict[str, str] | None = None):
    key = endpoint.key if isinstance(endpoint, Endpoint) else endpoint
    client = APIClient(raise_request_exception=False)
    return client.post(f"/api/v1/hooks/{key}/", json.dumps(body), content_type="application/json", headers=headers)


def signed(endpoint: Endpoint, body: object, *, webhook_id: str = "msg_1", at: int | None = None, key: str = ""):
    """Headers as the Standard Webhooks libraries make them."""
    timestamp = str(int(time.time()) if at is None else at)
    content = f"{webhook_id}.{timestamp}.{json.dumps(body)}".encode()
    mac = hmac.new((key or endpoint.key).encode(), content, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(b'x' * 32).decode()} v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


@pytest.mark.parametrize("where", [{"chat_id": "oc_1"}, {"user_id": "ou_1"}])
def test_a_text_is_pushed(endpoint, where):
    response = call(endpoint, {"text": "news", **where})

    push = Message.objects.get()
    assert response.status_code == 202
    assert response.json() == {"id": str(push.pk), "status": "answered"}
    assert (push.role, push.text, push.conversation.endpoint) == ("assistant", "news", endpoint)
    entry = AuditLog.objects.get(action="message.pushed")
    assert (entry.actor_kind, entry.actor_id) == ("client", str(endpoint.pk))


def test_a_question_is_answered_and_its_conversation_goes_on(endpoint, worker):
    first = call(endpoint, {"question": "one"}).json()
    second = call(endpoint, {"question": "two", "conversation": first["conversation"]}).json()

    assert first["conversation"] == second["conversation"]
    for _ in range(200):
        question = Message.objects.get(pk=second["message_id"])
        if question.status == "delivered":
            break
        time.sleep(0.05)
    assert question.replies.get().text == "echo: two"


def test_a_conversation_of_another_hook_is_not_found(endpoint):
    begun = call(endpoint, {"question": "one"}).json()["conversation"]

    assert call(factories.endpoint(bot=endpoint.bot), {"question": "x", "conversation": begun}).status_code == 404


@pytest.mark.parametrize("body", [{"text": "news", "chat_id": "oc_1"}, {"question": "one"}])
def test_a_signed_call_is_done_once(endpoint, body):
    first, second = [call(endpoint, body, signed(endpoint, body)) for _ in range(2)]

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert Message.objects.count() == 1


def test_a_forged_stale_or_half_signed_call_is_refused_and_audited(endpoint):
    body = {"text": "news", "chat_id": "oc_1"}
    good = signed(endpoint, body)
    bad = [
        signed(endpoint, body, key="guessed"),
        signed(endpoint, body, at=int(time.time()) - 301),
        signed(endpoint, body, at=int(time.time()) + 330),
        {**good, "webhook-id": "msg_2"},
        {**good, "webhook-signature": ""},
        {**good, "webhook-signature": "v1,ä"},
        {**good, "webhook-timestamp": "now"},
        {name: value for name, value in good.items() if name != "webhook-id"},
    ]

    assert [call(endpoint, body, headers).status_code for headers in bad] == [401] * len(bad)
    assert call(endpoint, {**body, "text": "changed"}, good).status_code == 401
    assert Message.objects.count() == 0
    assert AuditLog.objects.filter(action="webhook.rejected").exists()


@pytest.mark.parametrize(
    "body",
    [{}, [], {"text": "x"}, {"chat_id": "oc_1"}, {"text": "x", "question": "y"}, {"text": " ", "chat_id": "c"}],
)
def test_a_bad_call_is_refused(endpoint, body):
    assert call(endpoint, body).status_code == 400
    assert Message.objects.count() == 0


def test_an_unknown_key_and_a_disabled_endpoint_are_not_found(endpoint):
    body = {"text": "x", "chat_id": "oc_1"}
    Endpoint.objects.update(is_enabled=False)

    assert call("unknown", body).status_code == 404
    assert call(endpoint, body).status_code == 404


@pytest.mark.rule("W7")
def test_an_unknown_key_costs_the_work_of_a_bad_signature_and_is_noted_without_the_key(endpoint, monkeypatch):
    audit.REFUSALS.clear()
    computed = []
    monkeypatch.setattr(hooks, "signature_of", lambda *args: computed.append(args[0]) or "v1,x")
    body = {"text": "news", "chat_id": "oc_1"}

    assert call(endpoint, body, signed(endpoint, body, key="guessed")).status_code == 401
    assert call("a-key-that-nobody-has", body, signed(endpoint, body)).status_code == 404

    assert computed == [endpoint.key, hooks.NOBODYS_KEY]
    reasons = list(AuditLog.objects.order_by("created_at").values_list("action", "target_label", "reason"))
    assert reasons[1:] == [("webhook.rejected", "/api/v1/hooks/", "key: no such address, or it is disabled")]
    assert "a-key-that-nobody-has" not in str([vars(entry) for entry in AuditLog.objects.all()])


def test_a_call_that_is_too_large_is_refused(endpoint):
    assert call(endpoint, {"text": "x" * 1_100_000, "chat_id": "oc_1"}).status_code == 413
