from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from integrations.dingtalk import cards
from integrations.dingtalk import transport as transport_module
from integrations.dingtalk.cards import Message
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.refusals import Refused
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.values import Credentials, ReplyTarget
from tests.integrations.doubles import MemoryTokens

from .fake_dingtalk import CREATE, CUT_AFTER, CUT_BEFORE, HANG, SESSION, STREAM, TO_GROUP, TO_USER, TOKEN, FakeDingTalk

HELLO = Message("hello")
TOKEN_REFUSED = (400, {"code": "InvalidAuthentication", "message": "不合法的access_token"})
LOST = [CUT_BEFORE, CUT_AFTER, (502, "<html>"), (504, {"code": "gateway.timeout"})]


def to_user(client: DingTalkClient, credentials: Credentials, staff: str = "staff0001") -> str:
    return client.send_to_user(cards.user_message(credentials, staff, HELLO))


# -- tokens ------------------------------------------------------------------------------------------------------


def test_token_is_fetched_once_when_several_calls_need_it(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, tokens: MemoryTokens
) -> None:
    assert to_user(client, credentials) == "k1"
    client.send_to_group(cards.group_message(credentials, "cidGroup==", HELLO))
    assert dingtalk.count(TOKEN) == 1
    assert tokens.ttls_s == [6600.0]
    assert dingtalk.calls[0] == (TOKEN, {"appKey": "dingapp", "appSecret": "secret-of-the-app"})


def test_token_is_shared_when_another_client_of_the_same_app_has_it(
    credentials: Credentials, http: httpx.Client, dingtalk: FakeDingTalk, tokens: MemoryTokens
) -> None:
    for _ in range(2):
        to_user(DingTalkClient(credentials, http, tokens), credentials)
    assert dingtalk.count(TOKEN) == 1
    assert list(tokens.values) == [f"dingtalk:token:{credentials.api_url}:dingapp"]


def test_token_is_fetched_by_one_thread_when_many_start_at_once(
    credentials: Credentials, http: httpx.Client, dingtalk: FakeDingTalk, tokens: MemoryTokens
) -> None:
    threads = [
        threading.Thread(target=to_user, args=(DingTalkClient(credentials, http, tokens), credentials))
        for _ in range(8)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dingtalk.count(TOKEN) == 1
    assert len(dingtalk.seen) == 8


@pytest.mark.parametrize("refused", [TOKEN_REFUSED, (401, {"code": "InvalidAuthentication"}), (401, "")])
def test_token_is_replaced_once_when_refused(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, refused: Any
) -> None:
    dingtalk.fail(TO_USER, refused)
    to_user(client, credentials)
    assert (dingtalk.count(TOKEN), dingtalk.count(TO_USER), len(dingtalk.seen)) == (2, 2, 1)


def test_call_gives_up_when_a_fresh_token_is_refused_too(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk
) -> None:
    dingtalk.fail(TO_USER, TOKEN_REFUSED, TOKEN_REFUSED)
    with pytest.raises(Refused) as caught:
        to_user(client, credentials)
    assert (caught.value.permanent, dingtalk.count(TO_USER)) == (False, 2)


def test_expired_token_is_replaced_when_dingtalk_gave_a_new_one(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, tokens: MemoryTokens
) -> None:
    to_user(client, credentials)
    dingtalk.token = "token-2"
    to_user(client, credentials)
    assert list(tokens.values.values()) == ["token-2"]


def test_wrong_secret_is_permanent_when_the_token_is_fetched(
    credentials: Credentials, http: httpx.Client, tokens: MemoryTokens
) -> None:
    wrong = replace(credentials, app_secret="another")
    with pytest.raises(Refused) as caught:
        to_user(DingTalkClient(wrong, http, tokens), wrong)
    assert caught.value.permanent
    assert tokens.values == {}


@pytest.mark.parametrize("fault", LOST)
def test_send_may_be_retried_when_only_the_tokens_answer_was_lost(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, fault: Any
) -> None:
    dingtalk.fail(TOKEN, fault)
    with pytest.raises(Refused) as caught:
        to_user(client, credentials)
    assert not caught.value.permanent
    assert dingtalk.seen == []


# -- outcomes ----------------------------------------------------------------------------------------------------


def sends(client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, path: str) -> None:
    target = ReplyTarget("cidGroup==", "group")
    calls: dict[str, Callable[[], object]] = {
        SESSION: lambda: client.send_by_session(dingtalk.webhook, cards.webhook_message(HELLO)),
        TO_USER: lambda: to_user(client, credentials),
        TO_GROUP: lambda: client.send_to_group(cards.group_message(credentials, "cidGroup==", HELLO)),
        CREATE: lambda: client.create_and_deliver_card(cards.card(credentials, target, "t1")),
        STREAM: lambda: client.stream_card(cards.card_update("t1", "g1", "text")),
    }
    calls[path]()


@pytest.mark.parametrize("path", [SESSION, TO_USER, TO_GROUP, CREATE])
@pytest.mark.parametrize("fault", LOST)
def test_outcome_is_unknown_when_the_answer_to_a_send_was_lost(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, path: str, fault: Any
) -> None:
    dingtalk.fail(path, fault)
    with pytest.raises(OutcomeUnknown) as caught:
        sends(client, credentials, dingtalk, path)
    assert dingtalk.count(path) == 1
    assert "session=" not in str(caught.value)


def test_outcome_is_unknown_when_the_old_hosts_gateway_gave_up(client: DingTalkClient, dingtalk: FakeDingTalk) -> None:
    dingtalk.fail(SESSION, (200, {"errcode": 15, "errmsg": "timeout"}))
    with pytest.raises(OutcomeUnknown):
        client.send_by_session(dingtalk.webhook, cards.webhook_message(HELLO))


def test_outcome_is_unknown_when_the_answer_takes_too_long(
    client: DingTalkClient, dingtalk: FakeDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "TIMEOUT", httpx.Timeout(0.1))
    dingtalk.fail(SESSION, HANG)
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        client.send_by_session(dingtalk.webhook, cards.webhook_message(HELLO))
    assert time.monotonic() - started < 1.2


@pytest.mark.parametrize("fault", LOST)
def test_card_update_may_be_retried_when_its_answer_was_lost(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, fault: Any
) -> None:
    sends(client, credentials, dingtalk, CREATE)
    dingtalk.fail(STREAM, fault)
    with pytest.raises(Refused) as caught:
        sends(client, credentials, dingtalk, STREAM)
    assert not caught.value.permanent


@pytest.mark.parametrize("path", [SESSION, TO_USER, TO_GROUP, CREATE, STREAM])
@pytest.mark.parametrize("fault", [(500, "internal error"), (503, {}), (403, {"code": "x.QpsLimitForApi"})])
def test_send_is_refused_and_may_be_retried_when_dingtalk_answers_that_it_is_busy(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, path: str, fault: Any
) -> None:
    dingtalk.fail(path, fault)
    with pytest.raises(Refused) as caught:
        sends(client, credentials, dingtalk, path)
    assert not caught.value.permanent


@pytest.mark.parametrize("path", [SESSION, TO_USER])
def test_send_is_refused_and_may_be_retried_when_nobody_listens(
    credentials: Credentials, http: httpx.Client, tokens: MemoryTokens, dingtalk: FakeDingTalk, path: str
) -> None:
    nowhere = replace(credentials, api_url="http://127.0.0.1:1", oapi_url="http://127.0.0.1:1")
    client = DingTalkClient(nowhere, http, tokens)
    dingtalk.oapi_url = nowhere.oapi_url
    with pytest.raises(Refused) as caught:
        sends(client, nowhere, dingtalk, path)
    assert not caught.value.permanent
    assert "session=" not in str(caught.value)


def test_redirect_is_not_followed_when_dingtalk_sends_one(client: DingTalkClient, dingtalk: FakeDingTalk) -> None:
    dingtalk.fail(SESSION, (307, ""))
    with pytest.raises(Refused):
        client.send_by_session(dingtalk.webhook, cards.webhook_message(HELLO))
    assert dingtalk.paths() == [SESSION]


def test_webhook_is_refused_when_its_session_is_gone(client: DingTalkClient, dingtalk: FakeDingTalk) -> None:
    dingtalk.sessions.clear()
    with pytest.raises(Refused) as caught:
        client.send_by_session(dingtalk.webhook, cards.webhook_message(HELLO))
    assert caught.value.code == "300001"
    assert "session=" not in str(caught.value)


# -- refusals behind HTTP 200 ------------------------------------------------------------------------------------


def test_send_is_refused_when_the_person_is_unknown(client: DingTalkClient, credentials: Credentials) -> None:
    with pytest.raises(Refused) as caught:
        to_user(client, credentials, "nobody")
    assert caught.value.permanent


def test_send_is_refused_for_now_when_the_person_gets_too_many(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk
) -> None:
    dingtalk.fail(TO_USER, (200, {"processQueryKey": "k", "flowControlledStaffIdList": ["staff0001"]}))
    with pytest.raises(Refused) as caught:
        to_user(client, credentials)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    "result", [None, {}, {"deliverResults": []}, {"deliverResults": [{"success": True}, {"success": False}]}]
)
def test_card_is_refused_when_not_every_delivery_succeeded(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, result: Any
) -> None:
    dingtalk.fail(CREATE, (200, {"success": True, "result": result}))
    with pytest.raises(Refused) as caught:
        sends(client, credentials, dingtalk, CREATE)
    assert caught.value.permanent


@pytest.mark.parametrize("answer", [(200, "<html>blocked</html>"), (200, {"status": 1111, "punish": "deny"})])
def test_call_waits_when_the_address_is_blocked(
    client: DingTalkClient, credentials: Credentials, dingtalk: FakeDingTalk, answer: Any
) -> None:
    dingtalk.fail(TO_USER, answer)
    with pytest.raises(PlatformError) as caught:
        to_user(client, credentials)
    assert (caught.value.permanent, caught.value.retry_after_s) == (False, 300.0)
