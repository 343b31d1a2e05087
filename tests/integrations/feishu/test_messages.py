"""A message from Feishu: who wrote it, where and when, whom it addresses and what it answers."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.errors import PayloadError
from integrations.feishu.events import parse
from integrations.mentions import resolve
from integrations.values import Ignored, IncomingMessage, Mention, Quoted, ReplyTarget

from .conftest import SHARED, credentials, vectors
from .payloads import BOT, mention, message, read


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
