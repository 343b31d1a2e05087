"""A merged forward comes without its words: they are fetched from Feishu, and given to the model as a quotation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bots import inbound, intake, quotations
from bots.models import Endpoint, Message
from integrations.registry import adapter_for
from tests import factories
from tests.integrations.feishu.fake_feishu import FakeFeishu

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def feishu() -> Iterator[FakeFeishu]:
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def endpoint(feishu: FakeFeishu, settings: Any) -> Endpoint:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    app = factories.credential("feishu", app_id=feishu.app_id, app_secret=feishu.app_secret, base_url=feishu.url)
    return factories.endpoint(credential=app)


def stored(endpoint: Endpoint, kind: str, **fields: Any) -> Message:
    message = {
        "message_id": "om_f",
        "chat_id": "oc_1",
        "chat_type": "p2p",
        "message_type": kind,
        "content": json.dumps({"content": "Merged and Forwarded Message", "text": "and this?"}),
        **fields,
    }
    event = {"sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}, "message": message}
    payload = {"schema": "2.0", "header": {"event_type": "im.message.receive_v1"}, "event": event}
    incoming = adapter_for("feishu").parse(payload, endpoint.credential.values())
    effect = inbound.handle(endpoint, incoming)
    return Message.objects.get(pk=intake.accept(effect.draft).result(10).message_id)  # type: ignore[arg-type]


def test_words_of_a_forward_are_fetched(endpoint: Endpoint, feishu: FakeFeishu) -> None:
    says = feishu.lookups.says
    forward = says("om_f", {"content": "Merged and Forwarded Message"}, "merge_forward")
    feishu.lookups.items["om_f"] = [forward, says("om_a", {"text": "Where?"}), says("om_b", {"text": "Here."})]
    feishu.lookups.names = {"ou_ben": "Ben"}
    message = stored(endpoint, "merge_forward")

    quotations.complete(message)

    assert message.details["quoted"]["text"] == "Ben: Where?\nBen: Here."


def test_quoted_message_of_somebody_else_is_fetched(endpoint: Endpoint, feishu: FakeFeishu) -> None:
    feishu.lookups.says("om_0", {"text": "The office opens at nine."})
    message = stored(endpoint, "text", parent_id="om_0")

    quotations.complete(message)

    assert message.details["quoted"]["text"] == "The office opens at nine."
