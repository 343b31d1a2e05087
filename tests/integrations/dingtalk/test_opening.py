"""Events and pressed buttons over HTTP: what proves them, what they become, what they are answered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.dingtalk.crypto import EventKeys, callback_signature, card_secret
from integrations.errors import AuthenticationError, PayloadError
from integrations.values import (
    BotAdded,
    BotRemoved,
    CardAction,
    Challenge,
    Credentials,
    Ignored,
    Inbound,
    Toast,
    WebhookRequest,
)
from tests.integrations.doubles import MemoryTokens

NOW_S = 1_760_000_004.0
NOW_MS = str(int(NOW_S * 1000))
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
APP = Credentials(
    id="1",
    platform="dingtalk",
    app_id="dingexampleclientid",
    app_secret="secret",
    verification_token="exampleToken01",
    encrypt_key=AES_KEY,
    api_url="https://api.dingtalk.com",
    oapi_url="https://oapi.dingtalk.com",
    corp_id="dingexamplecorp",
)
KEYS = EventKeys("exampleToken01", AES_KEY, ("dingexampleclientid",))
ADAPTER = DingTalkAdapter(httpx.Client(trust_env=False), MemoryTokens())
GONE = {"EventType": "chat_disband", "CorpId": "dingexamplecorp", "OpenConversationId": "cidGroup=="}
PRESSED = {
    "type": "actionCallback",
    "outTrackId": "track-1",
    "corpId": "dingexamplecorp",
    "userId": "staff0001",
    "spaceType": "IM_GROUP",
    "spaceId": "cidGroup==",
    "content": json.dumps({"cardPrivateData": {"actionIds": ["stop"], "params": {}}}),
}


def event(payload: Any, keys: EventKeys = KEYS, timestamp: str = NOW_MS, **query: str) -> WebhookRequest:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    sealed = keys.seal(text, timestamp, "nonce1")
    given = {"signature": sealed["msg_signature"], "timestamp": timestamp, "nonce": "nonce1", **query}
    return WebhookRequest({}, json.dumps({"encrypt": sealed["encrypt"]}).encode(), NOW_S, given)


def press(payload: Any, secret: str = "", timestamp: str = NOW_MS) -> WebhookRequest:
    key = (secret or card_secret("secret")).encode()
    sign = base64.b64encode(hmac.new(key, timestamp.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ddpaas-signature-timestamp": timestamp, "x-ddpaas-signature": sign}
    return WebhookRequest(headers, json.dumps(payload).encode(), NOW_S)


def receive(request: WebhookRequest, app: Credentials = APP) -> Inbound:
    return ADAPTER.receive(request, app)


def opened(answer: Any) -> bytes:
    query = {"signature": answer["msg_signature"], "timestamp": answer["timeStamp"], "nonce": answer["nonce"]}
    return KEYS.open(query, answer["encrypt"])


# -- events ---------------------------------------------------------------------------------------------------------


def test_console_learns_that_the_address_is_ours_when_it_asks() -> None:
    found = receive(event({"EventType": "check_url"}))

    assert isinstance(found, Challenge)
    assert opened(found.answer) == b"success"


def test_end_of_a_group_is_told_and_answered_sealed() -> None:
    request = event(GONE)

    assert receive(request) == BotRemoved("cidGroup==")
    assert opened(ADAPTER.acknowledge(request, APP, {})) == b"success"


def test_a_group_that_the_robot_came_to_or_left_is_told() -> None:
    came = {
        "EventType": "im_cool_app_install",
        "eventId": "e1",
        "openConversationId": "cidG==",
        "operator": "staff0001",
    }
    assert receive(event(came)) == BotAdded("cidG==", "e1", user_id="staff0001")
    assert receive(event({**came, "EventType": "im_cool_app_uninstall"})) == BotRemoved("cidG==")
    assert receive(event({**came, "eventId": None})) == Ignored("event")


@pytest.mark.parametrize("name", ["msg_signature", "signature"])
def test_event_is_taken_when_its_query_is_named_in_the_old_or_the_new_way(name: str) -> None:
    request = event(GONE)
    query = {name: request.query["signature"], "timeStamp": NOW_MS, "nonce": "nonce1"}
    assert receive(replace(request, query=query)) == BotRemoved("cidGroup==")


@pytest.mark.parametrize(
    "payload", [{"EventType": "chat_update_title"}, {}, {"EventType": 7}, {"EventType": "chat_disband"}]
)
def test_other_events_are_ignored_and_answered_sealed(payload: dict[str, Any]) -> None:
    request = event(payload)
    assert receive(request) == Ignored("event")
    assert opened(ADAPTER.acknowledge(request, APP, {})) == b"success"


@pytest.mark.parametrize(
    "forged",
    [
        event(GONE, EventKeys("otherToken", AES_KEY, KEYS.owners)),
        event(GONE, EventKeys("exampleToken01", "b" + AES_KEY[1:], KEYS.owners)),
        event(GONE, EventKeys("exampleToken01", AES_KEY, ("dingother",))),
        event(GONE, nonce="nonce2"),
        event(GONE, timestamp=str(int(NOW_S) - 3601)),
        event(GONE, timestamp=str((int(NOW_S) + 3601) * 1000)),
        event(GONE, timestamp="soon"),
        event({**GONE, "CorpId": "dingother"}),
        WebhookRequest({}, b'{"encrypt":""}', NOW_S, {"signature": "", "timestamp": NOW_MS, "nonce": "n"}),
        WebhookRequest({}, b'{"encrypt":7}', NOW_S, {"signature": "x", "timestamp": NOW_MS, "nonce": "n"}),
        WebhookRequest({}, json.dumps(GONE).encode(), NOW_S, {"signature": "x", "timestamp": NOW_MS, "nonce": "n"}),
        WebhookRequest({}, json.dumps(GONE).encode(), NOW_S),
    ],
)
def test_event_is_refused_when_its_proof_does_not_hold(forged: WebhookRequest) -> None:
    with pytest.raises(AuthenticationError):
        receive(forged)


def test_events_are_refused_when_the_credential_has_no_keys_for_them() -> None:
    for bare in (replace(APP, encrypt_key=""), replace(APP, verification_token="")):
        with pytest.raises(AuthenticationError, match="not set up"):
            receive(event(GONE, EventKeys(bare.verification_token, AES_KEY, KEYS.owners)), bare)


def test_event_in_seconds_is_as_good_when_fresh() -> None:
    assert receive(event(GONE, timestamp=str(int(NOW_S)))) == BotRemoved("cidGroup==")


@pytest.mark.parametrize("text", [b"", b"[]", b"not json", b"\xff"])
def test_authentic_event_is_refused_when_it_is_no_object(text: bytes) -> None:
    with pytest.raises(PayloadError):
        receive(event(text))


def test_event_may_be_for_the_company_as_it_was_formerly() -> None:
    assert receive(event(GONE, replace(KEYS, owners=("dingexamplecorp",)))) == BotRemoved("cidGroup==")


def test_chinese_is_opened_unharmed() -> None:
    sealed = KEYS.seal("新群名 👍".encode(), NOW_MS)
    query = {"signature": sealed["msg_signature"], "timestamp": NOW_MS, "nonce": sealed["nonce"]}
    assert KEYS.open(query, sealed["encrypt"]).decode() == "新群名 👍"
    assert "\n" not in sealed["encrypt"]


@pytest.mark.parametrize("ending", [b"\x00", b"\x21", b"\x00\x02", b"\x01\x02"])
def test_padding_is_looked_at_to_its_last_byte(ending: bytes) -> None:
    """Signed as it should be, and yet not what DingTalk seals."""
    owner = b"dingexampleclientid"
    packed = b"r" * 16 + (13).to_bytes(4, "big") + b'{"EventType":' + owner
    packed += b"\x0c" * (64 - len(packed) - len(ending)) + ending
    key = base64.b64decode(f"{AES_KEY}=")
    sealed = Cipher(algorithms.AES256(key), modes.CBC(key[:16])).encryptor().update(packed)
    encrypted = base64.b64encode(sealed).decode()
    signature = hashlib.sha1("".join(sorted([KEYS.token, NOW_MS, "n", encrypted])).encode()).hexdigest()
    with pytest.raises(AuthenticationError, match="decrypt failed"):
        KEYS.open({"signature": signature, "timestamp": NOW_MS, "nonce": "n"}, encrypted)


def test_keys_show_nothing_of_themselves() -> None:
    assert AES_KEY not in repr(KEYS)
    assert "exampleToken01" not in repr(KEYS)


# -- pressed buttons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("private", "button"),
    [
        ({"actionIds": ["stop"]}, "stop"),
        ({"actionIds": ["btn_like"], "params": {"vote": "like"}}, "up"),
        ({"actionIds": ["anything"], "params": {"vote": "down"}}, "down"),
        ({"actionIds": ["dislike"]}, "down"),
    ],
)
def test_button_is_known_by_its_action_or_its_vote(private: dict[str, Any], button: Any) -> None:
    pressed = {**PRESSED, "content": json.dumps({"cardPrivateData": private})}
    expected = CardAction(user_id="staff0001", card_id="track-1", button=button, chat_id="cidGroup==")
    assert receive(press(pressed)) == expected
    assert receive(press({**pressed, "content": None, "value": pressed["content"]})) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "{"},
        {"content": json.dumps({"cardPrivateData": {"actionIds": ["other"]}})},
        {"content": json.dumps({"cardPrivateData": {"actionIds": "stop"}})},
        {"content": json.dumps({"cardPrivateData": {"actionIds": [7, None], "params": 3}})},
        {"outTrackId": ""},
        {"userId": None},
    ],
)
def test_press_is_ignored_when_nothing_of_ours_is_meant(changes: dict[str, Any]) -> None:
    assert receive(press({**PRESSED, **changes})) == Ignored("unknown_card_action")


def test_press_in_a_direct_chat_names_no_group() -> None:
    found = receive(press({**PRESSED, "spaceType": "IM_ROBOT", "spaceId": "staff0001"}))
    assert isinstance(found, CardAction)
    assert found.chat_id == ""


@pytest.mark.parametrize(
    "forged",
    [
        press(PRESSED, secret="guessed"),
        press(PRESSED, secret="secret"),
        press(PRESSED, timestamp=str(int(NOW_MS) - 3_600_001)),
        press({**PRESSED, "corpId": "dingother"}),
        WebhookRequest({"x-ddpaas-signature": "é"}, json.dumps(PRESSED).encode(), NOW_S),
        WebhookRequest({"x-ddpaas-signature": "", "x-ddpaas-signature-timestamp": NOW_MS}, b"{}", NOW_S),
    ],
)
def test_press_is_refused_when_its_proof_does_not_hold(forged: WebhookRequest) -> None:
    with pytest.raises(AuthenticationError):
        receive(forged)


def test_press_is_not_believed_when_it_is_signed_as_a_message() -> None:
    """A captured signature of a message is good for any body for an hour: it must not press buttons."""
    headers = {"timestamp": NOW_MS, "sign": callback_signature(NOW_MS, "secret")}
    body = {**PRESSED, "EventType": "chat_disband", "chatbotCorpId": "dingexamplecorp"}
    found = receive(WebhookRequest(headers, json.dumps(body).encode(), NOW_S))
    assert found == Ignored("unknown_conversation_type")


def test_person_sees_the_own_vote_and_nobody_elses() -> None:
    action = CardAction(user_id="staff0001", card_id="track-1", button="up")
    shown = ADAPTER.shown(action, Toast("Thank you", vote="up"))
    assert ADAPTER.acknowledge(press(PRESSED), APP, shown) == {
        "cardUpdateOptions": {"updateCardDataByKey": True, "updatePrivateDataByKey": True},
        "userPrivateData": {"cardParamMap": {"vote": "up"}},
    }
    assert ADAPTER.shown(action, Toast("Stopped")) == {}
