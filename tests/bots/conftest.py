"""Platforms on real sockets, and bots that live on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bots import drafts, intake, turns
from bots.models import Endpoint, Message
from integrations.registry import adapters
from tests import factories
from tests.bots.doubles import Platform
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk


@pytest.fixture
def feishu_endpoint(db: None) -> Endpoint:
    return factories.endpoint(credential=factories.credential("feishu"))


@pytest.fixture
def dingtalk_endpoint(db: None) -> Endpoint:
    return factories.endpoint(credential=factories.credential("dingtalk", corp_id=""))


@pytest.fixture
def dingtalk_app() -> Iterator[FakeDingTalk]:
    with FakeDingTalk() as fake:
        yield fake


@pytest.fixture
def on_dingtalk(dingtalk_app: FakeDingTalk, settings: Any) -> Callable[..., Endpoint]:
    """Makes an endpoint whose bot answers in the fake DingTalk by plain messages."""
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    urls = {"dingtalk": (dingtalk_app.api_url, dingtalk_app.oapi_url)}
    settings.PLATFORM_URLS = {**settings.PLATFORM_URLS, **urls}

    def make(bot: dict[str, Any] | None = None, **values: Any) -> Endpoint:
        app = {"app_id": dingtalk_app.app_id, "app_secret": dingtalk_app.app_secret}
        credential = factories.credential("dingtalk", **app)
        return factories.endpoint(bot=factories.bot(**(bot or {})), credential=credential, **values)

    return make


@pytest.fixture
def says(dingtalk_app: FakeDingTalk) -> Callable[..., Message]:
    """Stores what a person writes in the fake DingTalk, as the door does."""

    def say(endpoint: Endpoint, text: str = "Hello", chat: str = "cid1", **values: Any) -> Message:
        target = factories.ReplyTarget(
            chat_id=chat,
            chat_type="direct",
            sender_id="staff0001",
            webhook_url=dingtalk_app.webhook,
            webhook_expires_at_s=time.time() + 3600,
        )
        sent = {"sender_id": "staff0001", "target": target, **values}
        item = drafts.draft(endpoint, factories.incoming(text, chat_id=chat, **sent))
        assert item
        return Message.objects.get(pk=intake.accept(item).result(10).message_id)

    return say


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Stands in for the DingTalk adapter: its people send files, quote, and belong to departments."""
    double = Platform(adapters()["dingtalk"])
    monkeypatch.setitem(adapters(), "dingtalk", double)
    return double


def work_off(*questions: Message) -> None:
    """Answer and deliver what waits in the conversations of these, as a worker does."""
    for question in questions:
        turns.work(question.conversation_id, may_answer=True)
    for question in questions:
        question.refresh_from_db()
