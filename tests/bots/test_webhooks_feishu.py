"""Feishu's events besides messages, through the whole ASGI stack: what they do, and what Feishu is answered."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import pytest
from channels.db import database_sync_to_async

from bots import buttons
from bots.models import Endpoint, Feedback, Message
from integrations.feishu.crypto import encrypt, event_signature
from tests import factories

from .callbacks import feishu_event, path_of, post

pytestmark = pytest.mark.django_db(transaction=True)
in_database = database_sync_to_async
IDS = {"open_id": "ou_1", "union_id": "on_1", "user_id": None}


@pytest.fixture
def endpoint(db: None) -> Endpoint:
    bot = factories.bot(welcome_text="Hello, I am new here.")
    return factories.endpoint(bot=bot, credential=factories.credential("feishu"))


def sealed(endpoint: Endpoint, kind: str, event: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    credential, now = endpoint.credential, str(int(time.time()))
    header = {
        "event_id": secrets.token_hex(4),
        "token": credential.verification_token,
        "event_type": kind,
        "app_id": credential.app_id,
        "tenant_key": "t",
    }
    plain = json.dumps({"schema": "2.0", "header": header, "event": event}).encode()
    body = json.dumps({"encrypt": encrypt(plain, credential.encrypt_key)}).encode()
    signature = event_signature(now, "n", credential.encrypt_key, body)
    return body, {"X-Lark-Request-Timestamp": now, "X-Lark-Request-Nonce": "n", "X-Lark-Signature": signature}


def pressed(endpoint: Endpoint, value: dict[str, Any], open_id: str = "ou_1") -> tuple[bytes, dict[str, str]]:
    event = {
        "operator": {**IDS, "open_id": open_id},
        "token": "c-1",
        "action": {"tag": "button", "value": value},
        "host": "im_message",
        "context": {"open_message_id": "om_card", "open_chat_id": "oc_1"},
    }
    return sealed(endpoint, "card.action.trigger", event)


async def asked(endpoint: Endpoint) -> Message:
    """A question that a person wrote, and a reply to it that is being written."""
    assert (await post(path_of(endpoint), *feishu_event(endpoint, "A long story")))[0] == 200
    return await in_database(_begun)()


def _begun() -> Message:
    question = Message.objects.get(role="user")
    Message.objects.filter(pk=question.pk).update(status="answering")
    return Message.objects.create(
        conversation=question.conversation, reply_to=question, role="assistant", status="answering", platform="feishu"
    )


async def test_pressing_stop_ends_the_answer_and_tells_the_person(endpoint: Endpoint) -> None:
    reply = await asked(endpoint)
    value = {"clawdbot": buttons.of(reply.pk).stop.value}  # type: ignore[union-attr]

    answer = await post(path_of(endpoint), *pressed(endpoint, value))

    question = await in_database(Message.objects.get)(role="user")
    assert answer == (200, {"toast": {"type": "success", "content": "Stopped."}})
    assert question.cancel_requested_at is not None


async def test_pressing_a_thumb_is_kept_as_feedback(endpoint: Endpoint) -> None:
    reply = await asked(endpoint)
    value = {"clawdbot": buttons.of(reply.pk).down.value}  # type: ignore[union-attr]

    answer = await post(path_of(endpoint), *pressed(endpoint, value, "ou_2"))

    votes = await in_database(lambda: list(Feedback.objects.values_list("user_id", "vote")))()
    assert answer == (200, {"toast": {"type": "success", "content": "Thank you for your feedback."}})
    assert votes == [("ou_2", "down")]


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"act": "approve"}, {}),
        (
            {"clawdbot": "stop.forged"},
            {"toast": {"type": "warning", "content": "This button is no longer valid."}},
        ),
    ],
)
async def test_button_of_another_card_or_a_forged_one_does_nothing(
    endpoint: Endpoint, value: dict[str, Any], answer: dict[str, Any]
) -> None:
    """The answer is an object all the same: else the person would see an error."""
    await asked(endpoint)

    assert await post(path_of(endpoint), *pressed(endpoint, value)) == (200, answer)

    question = await in_database(Message.objects.get)(role="user")
    assert question.cancel_requested_at is None


async def test_thumb_under_an_answer_is_feedback_and_can_be_taken_back(endpoint: Endpoint) -> None:
    reply = await asked(endpoint)
    await in_database(reply.steps.create)(
        name="part-1", key="k", state="done", remote_id="om_answer", fence=1, first_tried_at=reply.received_at
    )
    event = {
        "message_id": "om_answer",
        "reaction_type": {"emoji_type": "THUMBSUP"},
        "operator_type": "user",
        "user_id": IDS,
    }

    given = await post(path_of(endpoint), *sealed(endpoint, "im.message.reaction.created_v1", event))
    assert await in_database(lambda: list(Feedback.objects.values_list("user_id", "vote")))() == [("ou_1", "up")]
    taken = await post(path_of(endpoint), *sealed(endpoint, "im.message.reaction.deleted_v1", event))

    assert (given, taken) == ((200, {}), (200, {}))
    assert await in_database(Feedback.objects.count)() == 0


async def test_item_of_the_menu_is_a_question_and_repeats_of_the_click_are_none(endpoint: Endpoint) -> None:
    event = {"operator": {"operator_name": "Ann", "operator_id": IDS}, "event_key": "Opening hours", "timestamp": 1}
    click = sealed(endpoint, "application.bot.menu_v6", event)

    assert [await post(path_of(endpoint), *click) for _ in range(2)] == [(200, {}), (200, {})]

    stored = await in_database(lambda: list(Message.objects.filter(role="user").values_list("text", "sender_id")))()
    assert stored == [("Opening hours", "ou_1")]


async def test_picture_and_quotation_are_stored_with_what_fetches_them(endpoint: Endpoint) -> None:
    picture = json.dumps({"image_key": "img_1"})
    sent = feishu_event(endpoint, message_type="image", content=picture, parent_id="om_0")

    assert (await post(path_of(endpoint), *sent))[0] == 200

    details = await in_database(lambda: Message.objects.get(role="user").details)()
    assert [one["key"] for one in details["attachments"]] == ["image/om_1/img_1"]
    assert details["quoted"]["message_id"] == "om_0"
