"""Quoted messages: in every shape that is known, and in none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations.dingtalk.content import quoted
from integrations.values import Attachment, Quoted


def answering(original: Any, **more: Any) -> dict[str, Any]:
    text = {"content": "and this?", "isReplyMsg": True, "repliedMsg": original}
    return {"msgtype": "text", "chatbotUserId": "$:LWCP_v1:$bot", "text": text, **more}


@pytest.mark.parametrize(
    "content", [{"text": " 旧消息 "}, {"content": "旧消息"}, json.dumps({"text": "旧消息"}), "旧消息"]
)
def test_quoted_text_is_read_in_every_shape(content: Any) -> None:
    found = quoted(answering({"msgType": "text", "msgId": "m0", "senderId": "x", "content": content}))
    assert found == Quoted("m0", "旧消息", is_complete=True)


def test_quoted_picture_and_rich_text_can_be_fetched() -> None:
    picture = quoted(answering({"msgType": "picture", "msgId": "m0", "content": {"downloadCode": "d1"}}))
    assert picture == Quoted("m0", "", (Attachment("image", "d1"),), is_complete=True)
    runs = [{"text": "look"}, {"type": "picture", "downloadCode": "d2"}]
    rich = quoted(answering({"msgType": "richText", "msgId": "m0", "content": {"richText": runs}}))
    assert rich == Quoted("m0", "look", (Attachment("image", "d2"),), is_complete=True)


def test_quoted_answer_of_the_bot_is_named_by_its_sending() -> None:
    found = quoted(answering({"msgType": "interactiveCard", "msgId": "m0"}, originalProcessQueryKey="k1"))
    assert found == Quoted("k1", is_own=True)


def test_quoted_message_is_the_bots_when_its_sender_is() -> None:
    found = quoted(answering({"msgType": "text", "msgId": "m0", "senderId": "$:LWCP_v1:$bot", "content": "I said"}))
    assert found == Quoted("m0", "I said", is_own=True, is_complete=True)


def test_quoted_message_is_known_by_its_id_alone() -> None:
    assert quoted({"msgtype": "text", "text": {"content": "x"}, "originalMsgId": "m0"}) == Quoted("m0")


@pytest.mark.parametrize(
    "original",
    [None, {}, [], 7, "x", {"msgId": ""}, {"msgId": 7}, {"msgId": "x" * 257}, {"msgType": "text", "content": "x"}],
)
def test_nothing_is_quoted_when_no_message_is_named(original: Any) -> None:
    assert quoted(answering(original)) is None


@pytest.mark.parametrize("content", [None, 7, [], {"x": 1}, {"text": 7}, '{"'])
def test_quoted_message_is_incomplete_when_its_words_are_missing(content: Any) -> None:
    found = quoted(
        answering({"msgType": "text" if content != '{"' else "a_new_type", "msgId": "m0", "content": content})
    )
    assert found == Quoted("m0")
