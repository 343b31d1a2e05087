"""DingTalk's events and pressed buttons at the door: what they are answered, and what they change."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from channels.db import database_sync_to_async
from channels.testing import HttpCommunicator

from bots import drafts, intake
from bots.models import DeliveryStep, Endpoint, Feedback, Message, MessageFile
from clawdbot_site.asgi import application
from integrations.dingtalk.crypto import EventKeys, card_secret
from integrations.values import Attachment, Quoted
from monitoring.models import AuditLog
from tests import factories
from tests.bots.conftest import work_off
from tests.integrations.dingtalk.fake_dingtalk import DOWNLOAD

pytestmark = pytest.mark.django_db(transaction=True)
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
in_database = database_sync_to_async


@pytest.fixture
def place(db: None) -> Endpoint:
    keys = {"verification_token": "exampleToken01", "encrypt_key": AES_KEY}
    return factories.endpoint(credential=factories.credential("dingtalk", app_secret="secret", **keys))


def keys_of(place: Endpoint) -> EventKeys:
    return EventKeys("exampleToken01", AES_KEY, (place.credential.app_id,))


async def post(place: Endpoint, body: Any, headers: dict[str, str], query: str = "") -> tuple[int, Any]:
    sent = {"content-type": "application/json", "host": "127.0.0.1", **headers}
    pairs = [(name.encode(), value.encode()) for name, value in sent.items()]
    path = f"/webhooks/dingtalk/{place.key}/{'?' * bool(query)}{query}"
    communicator = HttpCommunicator(application, "POST", path, json.dumps(body).encode(), pairs)
    communicator.scope["client"] = ("127.0.0.1", 1234)
    answer = await communicator.get_response(timeout=10)
    return answer["status"], json.loads(answer["body"] or b"null")


async def send_event(place: Endpoint, payload: Any, keys: EventKeys | None = None) -> tuple[int, Any]:
    timestamp = str(int(time.time() * 1000))
    sealed = (keys or keys_of(place)).seal(json.dumps(payload).encode(), timestamp, "n1")
    query = urlencode({"signature": sealed["msg_signature"], "timestamp": timestamp, "nonce": "n1"})
    return await post(place, {"encrypt": sealed["encrypt"]}, {}, query)


async def press(place: Endpoint, button: str, user_id: str, secret: str = "") -> tuple[int, Any]:
    timestamp = str(int(time.time() * 1000))
    key = (secret or card_secret("secret")).encode()
    sign = base64.b64encode(hmac.new(key, timestamp.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ddpaas-signature-timestamp": timestamp, "x-ddpaas-signature": sign}
    content = json.dumps({"cardPrivateData": {"actionIds": [button], "params": {}}})
    body = {"type": "actionCallback", "outTrackId": "track-1", "userId": user_id, "content": content}
    return await post(place, body, headers)


def opened(place: Endpoint, answer: dict[str, str]) -> bytes:
    query = {"signature": answer["msg_signature"], "timestamp": answer["timeStamp"], "nonce": answer["nonce"]}
    return keys_of(place).open(query, answer["encrypt"])


def answered_by_a_card(place: Endpoint) -> Message:
    """A group's question that is being answered in the card track-1."""
    incoming = factories.incoming(chat_id="cidGroup==", chat_type="group", sender_id="staff0001")
    item = drafts.draft(place, incoming)
    assert item is not None
    question = Message.objects.get(pk=intake.accept(item).result(10).message_id)
    reply = Message.objects.create(
        conversation=question.conversation, role="assistant", reply_to=question, platform="dingtalk", status="answering"
    )
    step = {"name": "card", "key": "track-1", "remote_id": "track-1", "state": "done", "fence": 1}
    DeliveryStep.objects.create(message=reply, first_tried_at=reply.received_at, **step)
    Message.objects.filter(pk=question.pk).update(status="answering")
    return question


async def test_console_gets_its_sealed_success(place):
    status, answer = await send_event(place, {"EventType": "check_url"})

    assert (status, opened(place, answer)) == (200, b"success")


async def test_event_that_asks_nothing_of_us_gets_its_sealed_success(place):
    status, answer = await send_event(place, {"EventType": "chat_update_title", "ChatId": "x"})

    assert (status, opened(place, answer)) == (200, b"success")


async def test_forged_event_is_refused_and_audited(place):
    other = EventKeys("otherToken", AES_KEY, (place.credential.app_id,))
    status, answer = await send_event(place, {"EventType": "check_url"}, other)

    assert (status, answer["error"]["code"]) == (401, "unauthenticated")
    entry = await in_database(AuditLog.objects.get)(action="webhook.rejected")
    assert entry.reason == "signature mismatch: made with another token"


async def test_who_asked_stops_the_answer(place):
    question = await in_database(answered_by_a_card)(place)

    assert await press(place, "stop", "staff0002") == (200, {})
    await in_database(question.refresh_from_db)()
    assert question.cancel_requested_at is None

    assert await press(place, "stop", "staff0001") == (200, {})
    await in_database(question.refresh_from_db)()
    assert question.cancel_requested_at is not None


async def test_vote_is_kept_and_shown_to_who_gave_it(place):
    await in_database(answered_by_a_card)(place)

    status, answer = await press(place, "down", "staff0002")

    assert (status, answer["userPrivateData"]) == (200, {"cardParamMap": {"vote": "down"}})
    votes = await in_database(lambda: list(Feedback.objects.values_list("user_id", "vote")))()
    assert votes == [("staff0002", "down")]


async def test_forged_press_changes_nothing(place):
    question = await in_database(answered_by_a_card)(place)

    status, _answer = await press(place, "stop", "staff0001", secret="guessed")

    await in_database(question.refresh_from_db)()
    assert (status, question.cancel_requested_at) == (401, None)


# -- files and quotations, on their whole way --


def test_file_is_fetched_from_dingtalk_and_read(on_dingtalk, says, dingtalk_app):
    dingtalk_app.files["code1"] = "库存：42 件".encode()

    question = says(on_dingtalk(), "How many?", attachments=(Attachment("file", "code1", "stock.txt"),))
    work_off(question)

    assert question.status == "delivered"
    [file] = MessageFile.objects.all()
    assert "库存：42 件" in file.text
    assert dingtalk_app.count(DOWNLOAD) == 1


def test_file_that_dingtalk_forgot_is_told_and_the_words_are_answered(on_dingtalk, says, dingtalk_app):
    question = says(on_dingtalk(), "How many?", attachments=(Attachment("file", "old", "stock.txt"),))
    work_off(question)

    assert question.status == "delivered"
    [(_via, text)] = dingtalk_app.seen
    assert "stock.txt" in text


def test_answer_that_is_quoted_is_known_by_its_sending(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk()
    dingtalk_app.sessions.clear()  # so that answers go by the robot's API, which names each sending
    work_off(says(endpoint, "One"))
    answer = Message.objects.get(role="assistant")

    question = says(endpoint, "And this?", quoted=Quoted(answer.steps.get(state="done").remote_id, is_own=True))
    work_off(question)

    assert question.details["quoted"]["text"] == answer.text
