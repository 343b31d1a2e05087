"""The platforms' door: what is taken, and that it is stored once before the 200. Through the whole ASGI stack."""

from __future__ import annotations

import json
import time

import pytest
from django.db import OperationalError

from bots import storing
from bots.models import Message
from integrations.feishu.crypto import encrypt, event_signature
from integrations.models import QuotaUsage

from .callbacks import dingtalk_message, feishu_event, in_database, path_of, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.rule("W5")
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_signed_message_is_stored_before_the_200(feishu_endpoint, slash):
    body, headers = feishu_event(feishu_endpoint, "Hello 你好")

    status, answer = await post(path_of(feishu_endpoint).rstrip("/") + slash, body, headers)

    stored = await in_database(lambda: Message.objects.filter(role="user").values_list("text", "external_id").get())()
    assert (status, answer, stored) == (200, {}, ("Hello 你好", "om_1"))


@pytest.mark.rule("W1", "W5", "W6")
async def test_a_repeat_is_taken_and_stored_once(feishu_endpoint):
    for _ in range(3):
        body, headers = feishu_event(feishu_endpoint)
        assert (await post(path_of(feishu_endpoint), body, headers))[0] == 200

    assert await in_database(Message.objects.filter(role="user").count)() == 1


@pytest.mark.rule("W2")
async def test_a_challenge_is_answered_and_does_nothing_else(feishu_endpoint):
    challenge = {
        "type": "url_verification",
        "token": feishu_endpoint.credential.verification_token,
        "challenge": 'x"你',
    }
    sealed = encrypt(json.dumps(challenge).encode(), feishu_endpoint.credential.encrypt_key)

    assert await post(path_of(feishu_endpoint), json.dumps({"encrypt": sealed}).encode()) == (
        200,
        {"challenge": 'x"你'},
    )
    assert await in_database(Message.objects.count)() == 0


@pytest.mark.rule("W2")
async def test_dingtalks_console_probe_is_answered_and_does_nothing(dingtalk_endpoint):
    assert await post(path_of(dingtalk_endpoint), b"probe", {"content-type": "text/plain"}) == (200, {})
    assert await in_database(Message.objects.count)() == 0


async def test_the_session_address_is_kept_encrypted(dingtalk_endpoint):
    url = "https://oapi.dingtalk.com/robot/sendBySession?session=canary-session"
    body, headers = dingtalk_message(dingtalk_endpoint, sessionWebhook=url)
    await post(path_of(dingtalk_endpoint), body, headers)

    message = await in_database(lambda: Message.objects.filter(role="user").get())()
    raw = await in_database(lambda: str(list(Message.objects.values())))()
    assert message.session_url == url
    assert "canary-session" not in raw


async def test_a_recalled_message_is_not_answered(feishu_endpoint):
    body, headers = feishu_event(feishu_endpoint)
    await post(path_of(feishu_endpoint), body, headers)
    credential = feishu_endpoint.credential
    event = {
        "schema": "2.0",
        "header": {
            "event_id": "e",
            "token": credential.verification_token,
            "event_type": "im.message.recalled_v1",
            "app_id": credential.app_id,
        },
        "event": {"message_id": "om_1", "chat_id": "oc_1"},
    }
    sealed = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), credential.encrypt_key)}).encode()
    now = str(int(time.time()))
    signature = event_signature(now, "n", credential.encrypt_key, sealed)
    headers = {"X-Lark-Request-Timestamp": now, "X-Lark-Request-Nonce": "n", "X-Lark-Signature": signature}

    assert (await post(path_of(feishu_endpoint), sealed, headers))[0] == 200
    message = await in_database(lambda: Message.objects.filter(role="user").get())()
    assert message.cancel_requested_at is not None


async def test_stop_after_a_mention_is_taken_in_a_group(feishu_endpoint):
    """The command stands behind a mention, and stopping needs the database."""
    feishu_endpoint.credential.own_id = "ou_bot"
    await in_database(feishu_endpoint.credential.save)()
    mentions = [{"key": "@_user_1", "id": {"open_id": "ou_bot"}, "name": "Bot"}]

    status, _ = await post(
        path_of(feishu_endpoint), *feishu_event(feishu_endpoint, "@_user_1 /stop", chat_type="group", mentions=mentions)
    )

    message = await in_database(Message.objects.get)()
    assert (status, message.details["command"], message.details["stopped"]) == (200, "stop", 0)


async def test_the_over_quota_notice_is_noted(dingtalk_endpoint):
    notice, headers = dingtalk_message(dingtalk_endpoint, errorCode=20001, errorMessage="over quota")

    assert (await post(path_of(dingtalk_endpoint), notice, headers))[0] == 200
    used_up = await in_database(lambda: list(QuotaUsage.objects.filter(used_up_at__isnull=False)))()
    assert [row.quota for row in used_up] == ["webhook"]


async def test_ids_longer_than_a_column_are_taken_and_stay_apart(dingtalk_endpoint):
    for end in "ab":
        body, headers = dingtalk_message(dingtalk_endpoint, msgId="m" * 250 + end, conversationId="c" * 250)
        assert (await post(path_of(dingtalk_endpoint), body, headers))[0] == 200

    assert await in_database(Message.objects.count)() == 2


def commits_nothing(drafts):
    raise OperationalError("gone")


@pytest.mark.rule("W5")
async def test_what_was_not_committed_is_not_taken_and_comes_again(feishu_endpoint, monkeypatch):
    body, headers = feishu_event(feishu_endpoint)
    with monkeypatch.context() as lost:
        lost.setattr(storing, "store", commits_nothing)
        assert (await post(path_of(feishu_endpoint), body, headers))[0] == 503
    assert await in_database(Message.objects.count)() == 0

    assert (await post(path_of(feishu_endpoint), body, headers))[0] == 200
    assert await in_database(Message.objects.filter(role="user").count)() == 1


@pytest.mark.rule("W5", "W6")
async def test_a_retry_after_a_lost_answer_is_one_message(feishu_endpoint, monkeypatch):
    """The commit was done; the platform never read our answer, as when the process is killed in between."""
    body, headers = feishu_event(feishu_endpoint)
    store, rows_at_answer = storing.store, []

    def stored_and_lost(drafts):
        store(drafts)
        rows_at_answer.append(Message.objects.filter(role="user").count())
        raise OperationalError("the connection was lost after the commit")

    with monkeypatch.context() as lost:
        lost.setattr(storing, "store", stored_and_lost)
        assert (await post(path_of(feishu_endpoint), body, headers))[0] == 503

    assert (await post(path_of(feishu_endpoint), body, headers))[0] == 200
    assert rows_at_answer == [1]
    assert await in_database(Message.objects.filter(role="user").count)() == 1
