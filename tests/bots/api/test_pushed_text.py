"""What is pushed as text is shown sign for sign, what is pushed as Markdown as Markdown; on both platforms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bots import pushes
from bots.models import Endpoint, Message
from tests import factories
from tests.integrations.feishu.fake_feishu import FakeFeishu

pytestmark = pytest.mark.django_db(transaction=True)
SIGNS = "1 * 2 * 3, **not bold** and # no title"
BOLD = "**bold**"


@pytest.fixture
def feishu_app() -> Iterator[FakeFeishu]:
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def on_feishu(feishu_app: FakeFeishu, settings: Any) -> Endpoint:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    app = {"app_id": feishu_app.app_id, "app_secret": feishu_app.app_secret, "base_url": feishu_app.url}
    return factories.endpoint(credential=factories.credential("feishu", **app))


def push(endpoint: Endpoint, text: str, *, is_markdown: bool) -> Message:
    pushed = pushes.accept(endpoint, text, chat_id="cidGroup==", is_markdown=is_markdown)
    pushes.work(pushed.conversation_id)
    pushed.refresh_from_db()
    return pushed


def test_text_and_markdown_on_feishu(on_feishu, feishu_app):
    states = [push(on_feishu, SIGNS, is_markdown=False).status, push(on_feishu, BOLD, is_markdown=True).status]

    shown = [(message.msg_type, message.text) for message in feishu_app.messages]
    assert (states, shown) == (["delivered", "delivered"], [("text", SIGNS), ("post", BOLD)])


def test_text_and_markdown_on_dingtalk(on_dingtalk, dingtalk_app):
    endpoint = on_dingtalk()
    states = [push(endpoint, SIGNS, is_markdown=False).status, push(endpoint, BOLD, is_markdown=True).status]

    kinds = [body["msgKey"] for _path, body in dingtalk_app.calls if "msgKey" in body]
    assert (states, dingtalk_app.seen) == (["delivered", "delivered"], [("group", SIGNS), ("group", BOLD)])
    assert kinds == ["sampleText", "sampleMarkdown"]


@pytest.mark.parametrize(("given", "is_markdown"), [({"text": SIGNS}, False), ({"markdown": SIGNS}, True)])
def test_rest_says_which_it_is(rest, given, is_markdown):
    endpoint = factories.endpoint()

    answer = rest.post(f"/api/v1/endpoints/{endpoint.pk}/push/", {"chat_id": "oc_1", **given})

    pushed = Message.objects.get(pk=answer.json()["id"])
    assert (answer.status_code, pushed.details["is_markdown"]) == (202, is_markdown)
