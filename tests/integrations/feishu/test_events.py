"""From an authentic payload to a value."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.base import (
    Attachment,
    Ignored,
    IncomingMessage,
    Mention,
    Recalled,
    ReplyTarget,
    WebhookRequest,
)
from integrations.errors import PayloadError
from integrations.feishu.events import parse
from integrations.feishu.opening import open_request
from integrations.mentions import resolve

from .conftest import CLOCK, SHARED, credentials, vectors

BOT = SHARED["bot_open_id"]


def message(content: Any, kind: str = "text", chat_type: str = "p2p", **fields: Any) -> dict[str, Any]:
    body = {
        "message_id": "om_1",
        "chat_id": "oc_1",
        "chat_type": chat_type,
        "message_type": kind,
        "create_time": "1790000000123",
        "content": content if isinstance(content, str) else json.dumps(content),
    }
    sender = {"sender_id": {"open_id": "ou_1", "union_id": "on_1", "user_id": None}, "sender_type": "user"}
    header = {"event_type": "im.message.receive_v1", "tenant_key": "tenant1", "app_id": SHARED["app_id"]}
    return {"schema": "2.0", "header": header, "event": {"sender": sender, "message": body | fields}}


def mention(number: int, open_id: str, name: str = "Ben") -> dict[str, Any]:
    return {"key": f"@_user_{number}", "id": {"open_id": open_id, "union_id": "", "user_id": None}, "name": name}


def read(payload: dict[str, Any], own_id: str = BOT) -> IncomingMessage:
    parsed = parse(payload, credentials(own_id=own_id))
    assert isinstance(parsed, IncomingMessage)
    return parsed


@pytest.mark.parametrize("vector", vectors("http_request"))
def test_event_is_understood_as_the_vector_says(vector: dict[str, Any]) -> None:
    expect = vector["expect"].get("event")
    if not expect:
        return
    own = credentials(**vector["input"]["config"], allow_unsigned=True, own_id=BOT)
    headers = {name.lower(): value for name, value in vector["input"]["headers"].items()}
    payload = open_request(WebhookRequest(headers, base64.b64decode(vector["input"]["body_base64"]), CLOCK), own)
    assert isinstance(payload, dict)

    parsed = parse(payload, own)

    if expect["event_type"] != "im.message.receive_v1":
        assert parsed == Ignored(f"event {expect['event_type']}")
        return
    assert isinstance(parsed, IncomingMessage)
    assert f"message_id:{parsed.message_id}" == expect["dedupe_key"]
    assert parsed.sender_id == expect["sender_open_id"]
    assert parsed.tenant_id == expect["tenant_key"]
    assert (parsed.target.chat_id, parsed.target.thread_id) == (expect["chat_id"], expect["thread_id"] or "")
    assert parsed.target.chat_type == {"p2p": "direct", "group": "group"}[expect["chat_type"]]
    text, is_mentioned = resolve(parsed.text, parsed.mentions, BOT)
    assert is_mentioned is expect["mentions_bot"]
    if "text" in expect:
        assert text == expect["text"]
    if expect.get("mentions_all"):
        assert [m.id for m in parsed.mentions] == ["all"]
        assert parsed.is_addressed is False


@pytest.mark.parametrize("vector", vectors("mention_text"))
def test_mentions_are_resolved_as_the_vector_says(vector: dict[str, Any]) -> None:
    given_, expect = vector["input"], vector["expect"]
    payload = message({"text": given_["text"]}, chat_type="group", mentions=given_["mentions"])

    incoming = read(payload, own_id=given_["bot_open_id"])

    assert resolve(incoming.text, incoming.mentions, given_["bot_open_id"])[0] == expect["text"]
    assert incoming.is_addressed is expect["mentions_bot"]


def test_direct_message_becomes_a_whole_value() -> None:
    assert read(message({"text": "你好 😀"}, thread_id="omt_1")) == IncomingMessage(
        message_id="om_1",
        text="你好 😀",
        sender_id="ou_1",
        target=ReplyTarget("oc_1", "direct", message_id="om_1", sender_id="ou_1", thread_id="omt_1"),
        is_addressed=True,
        sent_at_s=1790000000.123,
        tenant_id="tenant1",
    )


@pytest.mark.parametrize(
    ("mentions", "own_id", "is_addressed"),
    [
        ([], BOT, False),
        ([], "", False),
        ([mention(1, BOT)], BOT, True),
        ([mention(1, "ou_2", name="Clawd"), mention(2, BOT)], BOT, True),
        ([mention(1, "ou_2", name="Clawd")], BOT, False),
        ([mention(1, "ou_2")], "", None),
        ([{"key": "@_all", "id": {"open_id": "", "union_id": "", "user_id": ""}, "name": "所有人"}], BOT, False),
        ([{"key": "@_all", "id": {}, "name": "所有人"}], "", False),
        ("nonsense", BOT, False),
        ([None, 5, {"key": 5}], BOT, False),
    ],
)
def test_group_message_is_addressed_only_by_the_bots_own_id(mentions: Any, own_id: str, is_addressed: Any) -> None:
    assert read(message({"text": "hi"}, chat_type="group", mentions=mentions), own_id).is_addressed is is_addressed


def test_everybody_is_found_in_the_text_when_no_mentions_are_listed() -> None:
    everybody = (Mention("@_all", "all", "所有人"),)

    assert read(message({"text": "@_all大家好"}, chat_type="group")).mentions == everybody
    assert read(message({"text": "@_allowed"}, chat_type="group")).mentions == ()


def test_mention_tokens_are_kept_apart_when_one_begins_like_another() -> None:
    named = [mention(1, BOT, "Clawd"), mention(10, "ou_10", "Ten")]

    incoming = read(message({"text": "@_user_1 ask @_user_10"}, chat_type="group", mentions=named))

    assert incoming.text == "@_user_1 ask @_user_10"
    assert incoming.mentions == (Mention("@_user_1", BOT, "Clawd"), Mention("@_user_10", "ou_10", "Ten"))
    assert resolve(incoming.text, incoming.mentions, BOT) == ("ask @Ten", True)


def test_rich_text_is_read_with_title_links_code_and_pictures() -> None:
    rows = [
        [{"tag": "text", "text": "read "}, {"tag": "a", "href": "https://e.com/a", "text": "this"}],
        [{"tag": "at", "user_id": "@_user_1", "user_name": "Clawd"}, {"tag": "emotion", "emoji_type": "SMILE"}],
        [{"tag": "img", "image_key": "img_1"}, {"tag": "new", "text": "?"}, 5],
        [{"tag": "media", "file_key": "file_1", "image_key": "img_2", "file_name": "v.mp4"}],
        [{"tag": "code_block", "language": "PYTHON", "text": "print(1)\n"}],
    ]
    wanted = "Titel\nread this (https://e.com/a)\n@_user_1[SMILE]\n?\n\n\n```python\nprint(1)\n```"

    for content in ({"title": "Titel", "content": rows}, {"zh_cn": {"title": "Titel", "content": rows}}):
        incoming = read(message(content, "post"))
        assert incoming.text == wanted
        assert incoming.attachments == (Attachment("image", "img_1"), Attachment("video", "file_1", "v.mp4"))
        assert incoming.kind == "text"


@pytest.mark.parametrize(
    ("kind", "content", "attachments"),
    [
        ("image", {"image_key": "img_1"}, (Attachment("image", "img_1"),)),
        ("file", {"file_key": "file_1", "file_name": "报告.pdf"}, (Attachment("file", "file_1", "报告.pdf"),)),
        ("audio", {"file_key": "file_1", "duration": 2000}, (Attachment("audio", "file_1"),)),
        ("media", {"file_key": "f", "image_key": "i", "file_name": "v.mp4"}, (Attachment("video", "f", "v.mp4"),)),
        ("sticker", {"file_key": "file_1"}, ()),
        ("folder", {"file_key": "file_1"}, ()),
        ("interactive", {"title": "t", "elements": []}, ()),
        ("a_new_type", {"anything": [1]}, ()),
        ("image", {"image_key": 5}, ()),
        ("text", {"text": "  "}, ()),
        ("text", {"text": 5}, ()),
        ("text", "not json", ()),
        ("text", "[]", ()),
        ("post", {"content": "x"}, ()),
        ("post", {"content": [[{"tag": "img", "image_key": "img_1"}]]}, (Attachment("image", "img_1"),)),
        ("post", {}, ()),
        (None, {}, ()),
    ],
)
def test_what_cannot_be_answered_is_unsupported_with_its_files(kind: Any, content: Any, attachments: Any) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text, incoming.attachments) == ("unsupported", incoming.text, attachments)
    assert not incoming.text.strip()


@pytest.mark.parametrize("sender_type", ["bot", "app", "", None, "new"])
def test_message_is_ignored_when_no_person_wrote_it(sender_type: Any) -> None:
    payload = message({"text": "hi"})
    payload["event"]["sender"]["sender_type"] = sender_type

    assert parse(payload, credentials()) == Ignored("sender is not a person")


def test_message_is_ignored_when_it_was_recalled_meanwhile() -> None:
    assert parse(message(""), credentials()) == Ignored("message was recalled before it came")


def test_recall_names_its_message() -> None:
    payload = {"schema": "2.0", "header": {"event_type": "im.message.recalled_v1"}, "event": {"message_id": "om_9"}}

    assert parse(payload, credentials()) == Recalled("om_9")


@pytest.mark.parametrize("payload", [{}, {"schema": "2.0"}, {"schema": 5, "header": [], "event": "x"}, {"event": {}}])
def test_event_without_a_type_is_ignored(payload: dict[str, Any]) -> None:
    assert parse(payload, credentials()) == Ignored("event without a type")


@pytest.mark.parametrize("name", ["message_id", "chat_id"])
@pytest.mark.parametrize("value", [None, "", 5])
def test_message_without_an_id_is_refused(name: str, value: Any) -> None:
    with pytest.raises(PayloadError, match=name):
        parse(message({"text": "hi"}, **{name: value}), credentials())


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [("1790000000", 1790000000.0), ("1790000000500", 1790000000.5), ("1790000000500000", 1790000000.5)]
    + [(strange, 0.0) for strange in ("", "x", None, 5, "²", "9" * 400)],
)
def test_time_is_read_by_its_number_of_digits(stamp: Any, seconds: float) -> None:
    assert read(message({"text": "hi"}, create_time=stamp)).sent_at_s == seconds


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["text", "post", "image", "x"]), ANYTHING, ANYTHING)
def test_no_content_of_a_message_is_an_error(kind: str, content: Any, mentions: Any) -> None:
    assert read(message(json.dumps(content), kind, mentions=mentions)).message_id == "om_1"
