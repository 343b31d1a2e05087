"""The sign that the bot is at work: shown while the model thinks, gone with the answer, and nothing of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bots import delivery, drafts, intake
from bots.models import DeliveryStep, Endpoint, Message
from tests import factories
from tests.bots.conftest import work_off
from tests.integrations.feishu.fake_feishu import FakeFeishu

pytestmark = pytest.mark.django_db(transaction=True)
ADDED, TAKEN = "POST /open-apis/im/v1/messages/*/reactions", "DELETE /open-apis/im/v1/messages/*/reactions/*"


@pytest.fixture
def feishu_app() -> Iterator[FakeFeishu]:
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def endpoint(feishu_app: FakeFeishu, settings: Any) -> Endpoint:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    app = {"app_id": feishu_app.app_id, "app_secret": feishu_app.app_secret, "base_url": feishu_app.url}
    return factories.endpoint(credential=factories.credential("feishu", **app))


def say(endpoint: Endpoint, text: str) -> Message:
    item = drafts.draft(endpoint, factories.incoming(text))
    return Message.objects.get(pk=intake.accept(item).result(10).message_id)


def test_it_is_shown_and_taken_away(endpoint, feishu_app):
    work_off(say(endpoint, "Hello"))

    assert (feishu_app.asked(ADDED), feishu_app.asked(TAKEN), feishu_app.reactions) == (1, 1, {})
    assert feishu_app.texts == ["echo: Hello"]


def test_it_is_not_shown_for_what_needs_no_model(endpoint, feishu_app):
    work_off(say(endpoint, "/status"))

    assert feishu_app.asked(ADDED) == 0


def test_an_answer_of_which_only_it_was_seen_gives_way_to_an_apology(endpoint, feishu_app):
    question = say(endpoint, "Hello")
    reply = Message.objects.create(
        conversation=question.conversation, reply_to=question, role="assistant", platform="feishu", text="late"
    )
    step = {"name": "typing", "key": "k", "state": "done", "remote_id": "r1", "fence": 1}
    DeliveryStep.objects.create(message=reply, first_tried_at=timezone.now(), **step)
    old = timezone.now() - timedelta(hours=1)
    Message.objects.filter(pk=question.pk).update(status="answered", received_at=old)

    assert delivery.is_unseen(reply)
    work_off(question)
    assert feishu_app.texts == [
        "Sorry, I could not answer your message in time. Please ask again if you still need an answer."
    ]
