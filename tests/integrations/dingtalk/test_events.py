from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.dingtalk.crypto import callback_signature
from integrations.dingtalk.events import parse_card_action, parse_event, parse_message, session_url
from integrations.dingtalk.payload import strict_object
from integrations.errors import AuthenticationError, PayloadError
from integrations.values import (
    Attachment,
    BotAdded,
    BotRemoved,
    CardAction,
    Challenge,
    Credentials,
    Ignored,
    Inbound,
    IncomingMessage,
    WebhookRequest,
)
from tests.integrations.doubles import MemoryTokens

from .conftest import vector

NOW_S = 1_760_000_004.0
CREDENTIALS = Credentials(
    id="1",
    platform="dingtalk",
    app_id="dingexampleclientid",
    app_secret="secret",
    api_url="https://api.dingtalk.com",
    oapi_url="https://oapi.dingtalk.com",
)
BODY: dict[str, Any] = json.loads(vector("A02")["input"]["body"])
D = Attachment
ADAPTER = DingTalkAdapter(httpx.Client(trust_env=False), MemoryTokens())


def receive(body: Any, credentials: Credentials = CREDENTIALS, **headers: str) -> Inbound:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    timestamp = str(int(NOW_S * 1000))
    signed = {"timestamp": timestamp, "sign": callback_signature(timestamp, "secret"), **headers}
    return ADAPTER.receive(WebhookRequest(signed, raw, NOW_S), credentials)


def message(**fields: Any) -> IncomingMessage:
    found = receive({**BODY, **fields})
    assert isinstance(found, IncomingMessage)
    return found


# -- authentication ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"probe", b"\xff\xfe", b"{not json"])
def test_probe_is_answered_when_it_is_unsigned_and_no_json(body: bytes) -> None:
    assert ADAPTER.receive(WebhookRequest({}, body, NOW_S), CREDENTIALS) == Challenge({})


@pytest.mark.parametrize("body", [b"{}", b"[]", b"1", json.dumps(BODY).encode(), b"[" * 100_000])
def test_json_is_refused_when_it_is_unsigned(body: bytes) -> None:
    with pytest.raises(AuthenticationError):
        ADAPTER.receive(WebhookRequest({}, body, NOW_S), CREDENTIALS)


@pytest.mark.parametrize("headers", [{"timestamp": "1760000004000"}, {"sign": "x"}, {"timestamp": "", "sign": ""}])
def test_no_json_is_refused_when_only_half_signed(headers: dict[str, str]) -> None:
    with pytest.raises(AuthenticationError):
        ADAPTER.receive(WebhookRequest(headers, b"", NOW_S), CREDENTIALS)


@pytest.mark.rule("W1")
def test_signature_is_looked_at_first_when_the_body_is_broken_too() -> None:
    with pytest.raises(AuthenticationError):
        receive(b"not json", sign="forged")


@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"x"', b"{} {}", b'{"a":NaN}', b"\xff", b"\xef\xbb\xbf{}", b'{"a":' * 33 + b"1" + b"}" * 33,
     b'{"a":' * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_signed_body_is_refused_when_it_is_not_one_sane_object(body: bytes) -> None:
    with pytest.raises(PayloadError):
        receive(body)


def test_strict_object_takes_a_depth_when_it_is_just_allowed() -> None:
    assert strict_object(b'{"a":' * 32 + b"1" + b"}" * 32)


@pytest.mark.parametrize("robot", ["other", "", None, [], 7, "normal"])
def test_message_is_refused_when_it_names_another_robot(robot: Any) -> None:
    with pytest.raises(AuthenticationError):
        receive({**BODY, "robotCode": robot})


def test_message_is_taken_when_it_names_the_robot_code_the_app_or_none() -> None:
    credentials = replace(CREDENTIALS, robot_code="robot7")
    for body in ({**BODY, "robotCode": "robot7"}, BODY, {k: v for k, v in BODY.items() if k != "robotCode"}):
        assert isinstance(receive(body, credentials), IncomingMessage)


@pytest.mark.rule("W1")
@pytest.mark.parametrize("corp", ["dingother", None, ""])
def test_message_is_refused_when_the_company_is_pinned_and_another(corp: str | None) -> None:
    with pytest.raises(AuthenticationError):
        receive({**BODY, "chatbotCorpId": corp}, replace(CREDENTIALS, corp_id="dingexamplecorp"))


def test_message_names_its_company_when_none_is_pinned() -> None:
    assert message().tenant_id == "dingexamplecorp"


# -- vectors -----------------------------------------------------------------------------------------------------


def test_group_text_is_read_when_it_comes_as_in_the_vector() -> None:
    given = vector("A02")["input"]
    credentials = replace(CREDENTIALS, app_secret=given["app_secret"])
    request = WebhookRequest(given["headers"], given["body"].encode(), given["now_ms"] / 1000)
    found = ADAPTER.receive(request, credentials)
    assert isinstance(found, IncomingMessage)
    assert (found.message_id, found.text, found.sender_id, found.sender_name) == (
        "msgEXAMPLE0001==",
        "查询订单 20251009 的物流",
        "staff0001",
        "张三",
    )
    assert (found.kind, found.is_addressed, found.sent_at_s) == ("text", True, 1760000000.123)
    target = found.target
    assert (target.chat_id, target.chat_type, target.sender_id) == ("cidEXAMPLEgroup0001==", "group", "staff0001")
    assert target.webhook_url == BODY["sessionWebhook"]
    assert target.webhook_expires_at_s == 1760005400.345


@pytest.mark.parametrize("name", ["E02", "E03", "E12"])
def test_robot_message_is_read_when_it_is_the_body_of_a_frame(name: str) -> None:
    found = vector(name)
    frames = found["input"].get("frames", [found["input"].get("frame")])
    messages = [parse_message(json.loads(json.loads(frame)["data"]), CREDENTIALS) for frame in frames]
    assert {m.message_id for m in messages if isinstance(m, IncomingMessage)} == {
        "msgEXAMPLE0003==" if name == "E03" else "msgEXAMPLE0001=="
    }
    parsed = found["expected"].get("parsed", {})
    first = messages[0]
    assert isinstance(first, IncomingMessage)
    if name == "E03":
        assert first.text.split("\n") == parsed["texts"]
        assert [a.key for a in first.attachments] == parsed["downloadCodes"]
    elif parsed:
        assert first.text == parsed["text_trimmed"]


# -- kinds -------------------------------------------------------------------------------------------------------


def test_over_quota_notice_is_ignored_when_signed_and_without_company() -> None:
    body = {k: v for k, v in BODY.items() if k not in ("text", "chatbotCorpId")}
    pinned = replace(CREDENTIALS, corp_id="dingexamplecorp")
    assert receive({**body, "errorCode": 20001}, pinned) == Ignored("over_quota")
    assert receive({**body, "errorCode": "20001"}, pinned) == Ignored("over_quota")
    assert receive({**body, "errorCode": 1}, pinned) == Ignored("platform_error")


@pytest.mark.parametrize(
    ("fields", "text", "attachments"),
    [
        ({"text": {"content": "  你好 \n"}}, "你好", ()),
        ({"text": None, "content": " 你好"}, "你好", ()),
        ({"msgtype": "richText", "content": {"richText": [{"text": "please a "}, {"text": "b"}]}}, "please a b", ()),
        ({"msgtype": "richText", "content": '{"richText":[{"text":"a"},3,{"type":"at","atName":"x"}]}'}, "a", ()),
        (
            {"msgtype": "audio", "content": {"downloadCode": "d", "recognition": "spoken"}},
            "spoken",
            (),
        ),
    ],
)
def test_text_is_found_when_there_is_some(
    fields: dict[str, Any], text: str, attachments: tuple[Attachment, ...]
) -> None:
    found = message(**fields)
    assert (found.kind, found.text, found.attachments) == ("text", text, attachments)


@pytest.mark.parametrize(
    ("fields", "attachment"),
    [
        ({"msgtype": "picture", "content": {"downloadCode": "d", "pictureDownloadCode": "p"}}, D("image", "d")),
        ({"msgtype": "file", "content": '{"downloadCode":"d","fileName":"a.pdf"}'}, D("file", "d", "a.pdf")),
        ({"msgtype": "video", "content": {"downloadCode": "d"}}, D("video", "d")),
        ({"msgtype": "audio", "content": {"downloadCode": "d"}}, D("audio", "d")),
    ],
)  # fmt: skip
def test_file_is_something_to_answer_when_it_comes_without_words(fields: dict[str, Any], attachment: D) -> None:
    found = message(**fields)
    assert (found.kind, found.text, found.attachments) == ("text", "", (attachment,))


@pytest.mark.parametrize(
    "fields",
    [
        {"msgtype": "richText", "content": {"richText": "x"}},
        {"msgtype": "picture", "content": {}},
        {"msgtype": "chatRecord", "content": {"x": 1}},
        {"msgtype": "a_new_type"},
        {"msgtype": None},
        {"msgtype": ["text"]},
        {"text": {"content": "  "}},
        {"text": {"content": 5}},
    ],
)
def test_message_is_unsupported_when_it_holds_neither_words_nor_files(fields: dict[str, Any]) -> None:
    found = message(**fields)
    assert (found.kind, found.text, found.attachments) == ("unsupported", "", ())


def test_text_is_storable_when_it_held_nul_and_lone_surrogates() -> None:
    found = receive(json.dumps({**BODY, "senderNick": "a\ud800", "text": {"content": "x\x00y\udfffz 👍"}}).encode())
    assert isinstance(found, IncomingMessage)
    assert (found.sender_name, found.text) == ("a", "xyz 👍")


# -- people and places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("staff", ["", None])
def test_sender_is_the_encrypted_id_when_there_is_no_staff_id(staff: str | None) -> None:
    found = message(senderStaffId=staff)
    assert (found.sender_id, found.target.sender_id) == ("$:LWCP_v1:$senderidexample", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"senderStaffId": "", "senderId": ""},
        {"senderStaffId": 5},
        {"msgId": ""},
        {"msgId": None},
        {"msgId": "x" * 257},
        {"conversationId": ""},
        {"conversationId": {}},
    ],
)
def test_message_is_refused_when_it_cannot_be_told_from_others(fields: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        message(**fields)


def test_direct_chats_stay_apart_when_dingtalk_names_no_conversation() -> None:
    one = message(conversationType="1", conversationId=None, senderStaffId="a")
    two = message(conversationType="1", conversationId=None, senderStaffId="b")
    assert one.target.chat_id != two.target.chat_id
    assert one.target.chat_type == "direct"


@pytest.mark.parametrize("kind", ["3", None, "", True])
def test_message_is_ignored_when_its_conversation_is_of_an_unknown_type(kind: Any) -> None:
    assert receive({**BODY, "conversationType": kind}) == Ignored("unknown_conversation_type")


@pytest.mark.parametrize("created", ["1760000000123", 1760000000123])
def test_time_is_read_when_it_is_number_or_text(created: Any) -> None:
    assert message(createAt=created).sent_at_s == 1760000000.123
    assert message(createAt=True).sent_at_s == message(createAt="soon").sent_at_s == 0.0


@pytest.mark.parametrize(
    "url",
    [
        "http://oapi.dingtalk.com/robot/sendBySession?session=x",
        "https://oapi.dingtalk.com:8443/robot/sendBySession",
        "https://oapi.dingtalk.com.evil.example/robot",
        "https://oapi.dingtalk.com@evil.example/robot",
        "https://user@oapi.dingtalk.com/robot",
        "https://oapi.dingtalk.com\\@evil.example/robot",
        "https://evil.example\\oapi.dingtalk.com/",
        "https://api.dingtalk.com/robot",
        "//oapi.dingtalk.com/robot",
        "https://169.254.169.254/latest",
        "https://oapi.dingtalk.com:port/",
        "https://[oapi.dingtalk.com/",
        "https://oapi.dingtalk.com/\r\nHost: evil",
        "https://oapi.dingtalk.com/" + "x" * 2000,
        "https://оapi.dingtalk.com/robot",
        "",
        7,
    ],
)
def test_reply_address_is_dropped_when_it_is_not_dingtalks_own(url: Any) -> None:
    assert message(sessionWebhook=url).target.webhook_url == ""


@pytest.mark.parametrize(
    "own", ["https://oapi.dingtalk.com", "https://oapi.dingtalk.com:443", "HTTPS://OAPI.dingtalk.com"]
)
def test_reply_address_is_kept_when_only_the_spelling_differs(own: str) -> None:
    kept = session_url("https://oapi.dingtalk.com/robot/sendBySession?session=x", own)
    assert kept.lower().removesuffix("/robot/sendbysession?session=x") == own.lower()
    assert session_url("https://oapi.dingtalk.com/x", "") == ""


@given(st.text(max_size=60))
def test_reply_address_never_leaves_dingtalk_when_the_text_is_arbitrary(tail: str) -> None:
    for url in (tail, "https://oapi.dingtalk.com" + tail, "https://" + tail + "oapi.dingtalk.com/"):
        kept = session_url(url, "https://oapi.dingtalk.com")
        assert not kept or httpx.URL(kept).host == "oapi.dingtalk.com"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


QUOTE = st.dictionaries(st.sampled_from(["msgId", "msgType", "content", "senderId"]), JSON)


@given(
    QUOTE | JSON,
    st.dictionaries(st.sampled_from(["originalMsgId", "originalProcessQueryKey", "chatbotUserId"]), JSON),
    st.sampled_from(["text", "richText", "picture", "file", "video", "audio"]),
)
def test_message_is_taken_whatever_it_is_said_to_answer_to(original: Any, fields: dict[str, Any], kind: str) -> None:
    if isinstance(original, dict):
        original = {**original, "msgType": kind}
    found = message(**fields, text={"content": "and this?", "repliedMsg": original})
    assert found.text == "and this?"


@given(st.dictionaries(st.sampled_from(["outTrackId", "userId", "content", "value", "spaceId", "spaceType"]), JSON))
def test_press_is_never_an_error_when_fields_have_any_type(fields: dict[str, Any]) -> None:
    assert isinstance(parse_card_action(fields), CardAction | Ignored)


@given(
    st.sampled_from(["chat_disband", "im_cool_app_install", "im_cool_app_uninstall", "x"]),
    st.dictionaries(st.sampled_from(["openConversationId", "OpenConversationId", "eventId", "operator"]), JSON),
)
def test_event_is_never_an_error_when_fields_have_any_type(kind: str, fields: dict[str, Any]) -> None:
    assert isinstance(parse_event(kind, fields), BotAdded | BotRemoved | Ignored)


@given(
    st.dictionaries(st.sampled_from(sorted([*BODY, "content", "errorCode"])), JSON),
    st.sampled_from(["text", "richText", "audio", "file"]),
)
def test_parsing_never_fails_otherwise_when_fields_have_any_type(fields: dict[str, Any], kind: str) -> None:
    with suppress(PayloadError):
        parse_message({**BODY, "msgtype": kind, **fields}, CREDENTIALS)
