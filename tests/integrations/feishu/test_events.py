"""From an authentic payload to a value."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import PayloadError
from integrations.feishu.events import parse
from integrations.feishu.opening import open_request
from integrations.mentions import resolve
from integrations.values import (
    Attachment,
    BotAdded,
    BotRemoved,
    CardAction,
    ChatOpened,
    Ignored,
    Inbound,
    IncomingMessage,
    Mention,
    MenuClicked,
    Quoted,
    Reaction,
    Recalled,
    ReplyTarget,
    WebhookRequest,
)

from .conftest import CLOCK, SHARED, credentials, vectors

BOT = SHARED["bot_open_id"]
PERSON, CHAT = "ou_user000000000000000000000000001", "oc_chat00000000000000000000000001"
OTHERS: dict[str, Inbound] = {
    "v1-04-": Ignored("event app_ticket"),
    "card-0": Ignored("button that is not ours"),
    "evt-01": Ignored("event im.message.message_read_v1"),
    "evt-03": Reaction("om_msg00000000000000000000000001", PERSON, "up"),
    "evt-04": Ignored("reaction without a vote"),
    "evt-06": BotAdded(CHAT, "evt0000000000000000000000004105", "测试群", PERSON),
}


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

    if expect["event_type"] not in ("im.message.receive_v1", "message"):
        assert parsed == OTHERS[vector["id"][:6]]
        return
    assert isinstance(parsed, IncomingMessage)
    assert f"message_id:{parsed.message_id}" == expect["dedupe_key"]
    assert parsed.sender_id == expect["sender_open_id"]
    assert parsed.tenant_id == expect["tenant_key"]
    assert (parsed.target.chat_id, parsed.target.thread_id) == (expect["chat_id"], expect.get("thread_id") or "")
    assert parsed.target.chat_type == {"p2p": "direct", "group": "group"}[expect["chat_type"]]
    text, is_mentioned = resolve(parsed.text, parsed.mentions, BOT)
    assert (is_mentioned or (parsed.is_addressed and expect["schema"] == "1.0")) is expect["mentions_bot"]
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
        assert incoming.attachments == (
            Attachment("image", "image/om_1/img_1"),
            Attachment("video", "file/om_1/file_1", "v.mp4"),
        )
        assert incoming.kind == "text"


@pytest.mark.parametrize(
    ("kind", "content", "attachment"),
    [
        ("image", {"image_key": "img_1"}, Attachment("image", "image/om_1/img_1")),
        ("file", {"file_key": "f", "file_name": "报告.pdf"}, Attachment("file", "file/om_1/f", "报告.pdf")),
        ("audio", {"file_key": "f", "duration": 2000}, Attachment("audio", "file/om_1/f")),
        (
            "media",
            {"file_key": "f", "image_key": "i", "file_name": "v.mp4"},
            Attachment("video", "file/om_1/f", "v.mp4"),
        ),
        ("post", {"content": [[{"tag": "img", "image_key": "img_1"}]]}, Attachment("image", "image/om_1/img_1")),
    ],
)
def test_file_without_words_is_something_to_answer(kind: str, content: Any, attachment: Attachment) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text, incoming.attachments) == ("text", "", (attachment,))


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        ("sticker", {"file_key": "file_1"}, "[Sticker]"),
        (
            "location",
            {"name": "西湖", "longitude": "120.1", "latitude": "30.2"},
            "[Location: 西湖 (30.2, 120.1)]",
        ),
        ("location", {"name": "Lake"}, "[Location: Lake]"),
        ("location", {"longitude": "120.1", "latitude": "30.2"}, "[Location: (30.2, 120.1)]"),
        ("merge_forward", {"content": "Merged and Forwarded Message"}, "[Forwarded messages]"),
        (
            "interactive",
            {
                "title": "Leave",
                "elements": [
                    [
                        {"tag": "text", "text": "Ben asks for "},
                        {"tag": "a", "href": "https://e.com/1", "text": "2 days"},
                    ],
                    [
                        {"tag": "button", "text": "Agree"},
                        {"tag": "button", "text": {"content": "Refuse"}},
                        {"tag": "hr"},
                    ],
                    [{"tag": "button"}, {"tag": "img", "image_key": "img_1"}],
                ],
            },
            "Leave\nBen asks for 2 days (https://e.com/1)\n[Agree][Refuse]\n---",
        ),
        ("interactive", {"title": None, "elements": [{"tag": "text", "text": "bare row"}]}, "bare row"),
    ],
)
def test_what_is_no_text_is_put_into_words(kind: str, content: Any, text: str) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text) == ("text", text)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("folder", {"file_key": "file_1", "file_name": "x"}),
        ("share_chat", {"chat_id": "oc_1"}),
        ("share_user", {"user_id": "ou_1"}),
        ("hongbao", {"text": "[red packet]"}),
        ("a_new_type", {"anything": [1]}),
        ("sticker", {}),
        ("location", {"file_key": "x"}),
        ("interactive", {"elements": 5}),
        ("image", {"image_key": 5}),
        ("text", {"text": "  "}),
        ("text", {"text": 5}),
        ("text", "not json"),
        ("text", "[]"),
        ("post", {"content": "x"}),
        ("post", {}),
        (None, {}),
    ],
)
def test_what_cannot_be_answered_is_unsupported(kind: Any, content: Any) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text.strip(), incoming.attachments) == ("unsupported", "", ())


def test_message_of_the_platform_itself_is_ignored() -> None:
    payload = message({"template": "{from_user} invited {to_chatters} to this chat."}, "system")

    assert parse(payload, credentials()) == Ignored("message of the platform itself")


@pytest.mark.parametrize(
    ("fields", "quoted"),
    [
        ({"parent_id": "om_0", "root_id": "om_00"}, Quoted("om_0")),
        ({"parent_id": "om_0", "root_id": "om_0", "thread_id": "omt_1"}, Quoted("om_0")),
        ({"parent_id": "", "root_id": ""}, None),
        ({"parent_id": "om_1"}, None),
        ({"parent_id": 5}, None),
        ({"root_id": "om_00"}, None),
        ({}, None),
    ],
)
def test_message_that_answers_another_names_it(fields: dict[str, Any], quoted: Quoted | None) -> None:
    assert read(message({"text": "and this?"}, **fields)).quoted == quoted


def test_forward_quotes_itself_because_its_words_must_be_fetched() -> None:
    assert read(message({"content": "x"}, "merge_forward", parent_id="om_0")).quoted == Quoted("om_1")


IDS = {"open_id": "ou_1", "union_id": "on_1", "user_id": None}


def event(kind: str, **body: Any) -> dict[str, Any]:
    return {"schema": "2.0", "header": {"event_type": kind, "event_id": "evt_1"}, "event": body}


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (
            event("im.chat.member.bot.added_v1", chat_id="oc_1", operator_id=IDS, name="Team", external=False),
            BotAdded("oc_1", "evt_1", "Team", "ou_1"),
        ),
        (event("im.chat.member.bot.added_v1", chat_id="oc_1"), BotAdded("oc_1", "evt_1")),
        (event("im.chat.member.bot.deleted_v1", chat_id="oc_1", operator_id=IDS), BotRemoved("oc_1")),
        (event("im.chat.disbanded_v1", chat_id="oc_1"), BotRemoved("oc_1")),
        (
            event("im.chat.access_event.bot_p2p_chat_entered_v1", chat_id="oc_1", operator_id=IDS),
            ChatOpened("oc_1", "ou_1"),
        ),
        (
            event(
                "application.bot.menu_v6",
                operator={"operator_name": "Ann", "operator_id": IDS},
                event_key="/new",
                timestamp=1790000000,
            ),
            MenuClicked("/new", "ou_1", "evt_1", "Ann", 1790000000.0),
        ),
        (
            event(
                "im.message.reaction.created_v1",
                message_id="om_1",
                reaction_type={"emoji_type": "ThumbsDown"},
                operator_type="user",
                user_id=IDS,
            ),
            Reaction("om_1", "ou_1", "down"),
        ),
        (
            event(
                "im.message.reaction.deleted_v1",
                message_id="om_1",
                reaction_type={"emoji_type": "THUMBSUP"},
                operator_type="user",
                user_id=IDS,
            ),
            Reaction("om_1", "ou_1", "up", is_removed=True),
        ),
        (
            event(
                "im.message.reaction.created_v1",
                message_id="om_1",
                reaction_type={"emoji_type": "SMILE"},
                operator_type="user",
                user_id=IDS,
            ),
            Ignored("reaction without a vote"),
        ),
        (
            event(
                "card.action.trigger",
                operator={"open_id": "ou_1"},
                action={"tag": "button", "value": {"clawdbot": "stop:1"}},
                context={"open_message_id": "om_1", "open_chat_id": "oc_1"},
            ),
            CardAction("ou_1", "stop:1", chat_id="oc_1"),
        ),
        (
            event("card.action.trigger", operator={"open_id": "ou_1"}, action={"value": {"act": "x"}}),
            Ignored("button that is not ours"),
        ),
        (event("card.action.trigger", action={"value": "text"}), Ignored("button that is not ours")),
        (event("card.action.trigger", action=None), Ignored("button that is not ours")),
    ],
)
def test_what_is_told_besides_messages_becomes_a_value(payload: dict[str, Any], value: Inbound) -> None:
    assert parse(payload, credentials()) == value


@pytest.mark.parametrize(
    "payload",
    [
        event("im.chat.member.bot.added_v1"),
        event("im.chat.member.bot.deleted_v1", chat_id=5),
        event("im.chat.access_event.bot_p2p_chat_entered_v1", chat_id="oc_1"),
        event("application.bot.menu_v6", event_key="/new"),
        event("card.action.trigger", action={"value": {"clawdbot": "stop:1"}}),
    ],
)
def test_event_without_what_it_is_about_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="the event has no"):
        parse(payload, credentials())


def legacy(**fields: Any) -> dict[str, Any]:
    body = {
        "type": "message",
        "app_id": SHARED["app_id"],
        "tenant_key": "tenant1",
        "open_chat_id": "oc_1",
        "open_message_id": "om_1",
        "open_id": "ou_1",
        "chat_type": "private",
        "msg_type": "text",
        "text": "hi",
    }
    return {"ts": "1790000000.123456", "uuid": "u", "type": "event_callback", "event": body | fields}


def test_message_of_schema_1_becomes_the_same_value_as_its_copy_in_schema_2() -> None:
    assert read(legacy()) == read(message({"text": "hi"}, create_time="1790000000"))


@pytest.mark.parametrize(
    ("fields", "text", "is_addressed", "kind"),
    [
        (
            {"chat_type": "group", "is_mention": True, "text_without_at_bot": ' ask <at open_id="ou_2">@Ben</at>'},
            "ask @Ben",
            True,
            "text",
        ),
        ({"chat_type": "group", "is_mention": False}, "hi", False, "text"),
        ({"msg_type": "image", "text": ""}, "", True, "unsupported"),
    ],
)
def test_message_of_schema_1_is_read(fields: dict[str, Any], text: str, is_addressed: bool, kind: str) -> None:
    incoming = read(legacy(**fields))

    assert (incoming.text, incoming.is_addressed, incoming.kind) == (text, is_addressed, kind)


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


@given(st.sampled_from(["text", "post", "image", "interactive", "location", "x"]), ANYTHING, ANYTHING)
def test_no_content_of_a_message_is_an_error(kind: str, content: Any, mentions: Any) -> None:
    assert read(message(json.dumps(content), kind, mentions=mentions)).message_id == "om_1"
