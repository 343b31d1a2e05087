from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.dingtalk import cards
from integrations.dingtalk.cards import Message
from integrations.values import Credentials, ReplyTarget

from .conftest import vector, vectors

CREDENTIALS = Credentials(
    id="1",
    platform="dingtalk",
    app_id="dingexampleclientid",
    api_url="https://api.dingtalk.com",
    card_template_id="tmpl-0001.schema",
)
DIRECT = ReplyTarget(chat_id="cidX", chat_type="direct", sender_id="staff0001")
GROUP = ReplyTarget(chat_id="cidEXAMPLEgroup0001==", chat_type="group", sender_id="staff0001")


@pytest.mark.parametrize("vector", vectors("session_webhook_payload"))
def test_webhook_body_is_the_sdks_when_it_mentions_somebody(vector: dict[str, Any]) -> None:
    """The SDK leaves out that DingTalk's page wants the id in the text too; ours begins with it."""
    given, expected = vector["input"], vector["expected"]["body"]
    body = cards.webhook_message(Message(given["text"], given.get("title", "")), given["at_user_ids"][0])
    ours = json.loads(json.dumps(body).replace("@staff0001\\n\\n", ""))
    assert ours == expected


@pytest.mark.parametrize("name", ["B10", "B11"])
def test_webhook_body_has_the_custom_robots_shape_when_nobody_is_mentioned(name: str) -> None:
    expected = {k: v for k, v in vector(name)["expected"]["body"].items() if k != "at"}
    part = expected[expected["msgtype"]]
    assert cards.webhook_message(Message(part.get("text") or part["content"], part.get("title", ""))) == expected


def test_user_message_is_the_sdks_when_sent_by_the_api() -> None:
    expected = vector("F04")["expected"]["body"]
    body = cards.user_message(CREDENTIALS, "staff0001", Message("### 订单 20251009\n- 已发货", "订单状态"))
    assert json.loads(body.pop("msgParam")) == json.loads(expected.pop("msgParam"))
    assert body == {**expected, "userIds": ["staff0001"]}


def test_group_message_names_group_and_robot_when_sent_by_the_api() -> None:
    assert cards.group_message(replace(CREDENTIALS, robot_code="r7"), "cidG==", Message('字 "x"')) == {
        "robotCode": "r7",
        "openConversationId": "cidG==",
        "msgKey": "sampleText",
        "msgParam": '{"content":"字 \\"x\\""}',
    }


def test_card_for_a_person_is_the_sdks_when_created() -> None:
    """The SDK always adds the group's space model, which the page names for groups only."""
    expected = vector("F08")["expected"]["body"]
    del expected["imGroupOpenSpaceModel"]
    assert cards.card(CREDENTIALS, DIRECT, "track-0002") == expected


def test_card_for_a_group_names_group_and_robot_when_created() -> None:
    body = cards.card(CREDENTIALS, GROUP, "track-0001")
    assert body["openSpaceId"] == "dtv1.card//IM_GROUP.cidEXAMPLEgroup0001=="
    assert body["imGroupOpenDeliverModel"] == {
        "robotCode": "dingexampleclientid",
        "atUserIds": {"staff0001": "staff0001"},
    }
    assert body["imGroupOpenSpaceModel"] == {"supportForward": True}


@pytest.mark.parametrize(
    ("name", "shown"), [("张三", "张三"), ("<a atId=all>x</a>", "staff0001"), ("[x](https://e.example)", "staff0001")]
)
def test_card_in_a_group_names_who_asked_and_nobody_else(name: str, shown: str) -> None:
    body = cards.card(CREDENTIALS, replace(GROUP, sender_name=name), "track-0001")
    assert body["imGroupOpenDeliverModel"]["atUserIds"] == {"staff0001": shown}


@pytest.mark.parametrize("sender", ["", "@ALL", "ALL", "所有人"])
@pytest.mark.rule("L4")
def test_card_in_a_group_names_nobody_when_the_id_could_be_everybody(sender: str) -> None:
    body = cards.card(CREDENTIALS, replace(GROUP, sender_id=sender, sender_name="x"), "track-0001")
    assert body["imGroupOpenDeliverModel"] == {"robotCode": "dingexampleclientid"}


@pytest.mark.parametrize(("name", "text", "is_error"), [("F09", "正在查询", False), ("F11", "", True)])
def test_card_update_is_the_sdks_when_streamed(name: str, text: str, is_error: bool) -> None:
    expected = vector(name)["expected"]["body"]
    assert cards.card_update("track-0001", expected["guid"], text, is_error=is_error) == expected


@pytest.mark.parametrize("place", ["", "staff0001;IM_GROUP.cidOther"])
def test_card_has_no_space_when_the_id_could_name_more_than_one(place: str) -> None:
    assert not cards.has_card_space(replace(DIRECT, sender_id=place))
    assert not cards.has_card_space(replace(GROUP, chat_id=place))
    assert cards.has_card_space(DIRECT)
    assert cards.has_card_space(GROUP)


@pytest.mark.parametrize(
    "sender", ["all", "ALL", "allstaff", "everyone", "", "a b", "a\nb", "所有人", "x" * 65, "<at>"]
)
def test_nobody_is_mentioned_when_the_id_is_not_plainly_one_person(sender: str) -> None:
    assert cards.mention(replace(GROUP, sender_id=sender)) == ""


def test_asker_is_mentioned_when_in_a_group() -> None:
    assert cards.mention(GROUP) == "staff0001"
    assert cards.mention(DIRECT) == ""


def test_answer_is_a_text_message_when_it_holds_no_markdown() -> None:
    assert cards.messages("好的\n2 * 3") == (Message("好的\n2 * 3"),)
    assert cards.messages("**好的**") == (Message("**好的**", "好的"),)
    assert cards.messages(" \n") == ()


def test_card_takes_the_first_part_when_the_text_is_long() -> None:
    head, rest = cards.card_text("\n\n".join(f"paragraph {i} " + "x" * 80 for i in range(100)))
    assert len(head) <= 2800
    assert rest.startswith("paragraph ")


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=50), st.integers(1, 3000))
def test_every_message_fits_every_channel_when_the_text_is_arbitrary(piece: str, times: int) -> None:
    found = cards.messages(piece * times)
    assert len(found) <= 20
    for message in found:
        assert len(cards.group_message(CREDENTIALS, "c", message)["msgParam"].encode()) <= 15_000
        assert len(json.dumps(cards.webhook_message(message, "x" * 64), ensure_ascii=False).encode()) <= 20_000
        assert "isAtAll" not in cards.webhook_message(message).get("at", {})
