"""The fake platforms are strict on ids, or the kill matrix would prove nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.platforms import DingTalk, Feishu, Refusal

Seen = list[tuple[str, str, bool]]


class Chats:
    """What people see: (chat, text, is it complete) at each change."""

    def __init__(self) -> None:
        self.seen: Seen = []
        self.feishu, self.dingtalk = Feishu(self._record), DingTalk(self._record)

    def _record(self, chat: str, item: str, text: str, is_done: bool) -> None:
        self.seen.append((chat, text, is_done))

    def on_feishu(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        return self.feishu.answer(method, f"/open-apis/{path}", f"Bearer {Feishu.TOKEN}", body)[1]

    def on_dingtalk(self, path: str, **body: Any) -> dict[str, Any]:
        return self.dingtalk.answer("POST", path, DingTalk.TOKEN, body)[1]

    def reply(self, uuid: str, content: object, msg_type: str = "text") -> dict[str, Any]:
        values = {"uuid": uuid, "msg_type": msg_type, "content": json.dumps(content)}
        return self.on_feishu("POST", "im/v1/messages/om_c7m0/reply", **values)

    def card(self, text: str) -> str:
        card = {"config": {"streaming_mode": True}, "body": {"elements": [{"content": text}]}}
        return str(self.on_feishu("POST", "cardkit/v1/cards", data=json.dumps(card))["data"]["card_id"])

    def write(self, card: str, text: str, sequence: int) -> None:
        path = f"cardkit/v1/cards/{card}/elements/answer/content"
        self.on_feishu("PUT", path, content=text, sequence=sequence, uuid=f"u{sequence}")

    def stream(self, guid: str, text: str, is_last: bool = False) -> None:
        values = {"outTrackId": "k", "guid": guid, "content": text, "isFinalize": is_last, "isError": False}
        self.on_dingtalk("/v1.0/card/streaming", **values)


@pytest.fixture
def chats() -> Chats:
    return Chats()


def test_a_repeated_uuid_shows_nothing_new(chats: Chats) -> None:
    answers = [chats.reply(uuid, {"text": "hello"}) for uuid in ("u1", "u1", "u2")]

    assert chats.seen == [("c7", "hello", True)] * 2
    assert answers[0] == answers[1] != answers[2]


def test_a_feishu_card_is_seen_once_it_is_sent_and_whole_once_it_is_closed(chats: Chats) -> None:
    card = chats.card("he")
    chats.reply("u1", {"data": {"card_id": card}}, "interactive")
    chats.write(card, "hello", 5)
    closing = json.dumps({"config": {"streaming_mode": False}})
    chats.on_feishu("PATCH", f"cardkit/v1/cards/{card}/settings", settings=closing, sequence=6, uuid="u6")

    assert chats.seen == [("c7", "he", False), ("c7", "hello", False), ("c7", "hello", True)]


def test_a_sequence_that_does_not_rise_is_refused(chats: Chats) -> None:
    card = chats.card("he")
    chats.write(card, "hello", 5)

    with pytest.raises(Refusal) as refused:
        chats.on_feishu(
            "PUT", f"cardkit/v1/cards/{card}/elements/answer/content", content="x", sequence=5, uuid="other"
        )

    assert refused.value.answer == (400, {"code": 300317, "msg": "no"})


def test_a_card_can_be_sent_once(chats: Chats) -> None:
    content = {"data": {"card_id": chats.card("he")}}
    chats.reply("u1", content, "interactive")

    with pytest.raises(Refusal) as refused:
        chats.reply("u2", content, "interactive")

    assert refused.value.answer == (400, {"code": 230099, "msg": "no"})


def test_a_call_without_the_token_is_refused(chats: Chats) -> None:
    with pytest.raises(Refusal):
        chats.feishu.answer("POST", "/open-apis/cardkit/v1/cards", "", {})
    with pytest.raises(Refusal):
        chats.dingtalk.answer("POST", "/v1.0/card/streaming", "", {})


def test_each_message_by_session_or_robot_is_one_more(chats: Chats) -> None:
    said = {"msgtype": "text", "text": {"content": "hello"}}
    for _ in range(2):
        chats.on_dingtalk("/robot/sendBySession?session=c7", **said)
    chats.on_dingtalk("/v1.0/robot/oToMessages/batchSend", userIds=["staff_c7"], msgParam='{"content": "hello"}')

    assert chats.seen == [("c7", "hello", True)] * 3


def test_a_dingtalk_card_is_made_once_and_a_repeated_guid_writes_nothing(chats: Chats) -> None:
    for _ in range(2):
        chats.on_dingtalk(
            "/v1.0/card/instances/createAndDeliver", outTrackId="k", openSpaceId="dtv1.card//IM_ROBOT.staff_c7"
        )
    chats.stream("g1", "he")
    chats.stream("g1", "ignored")
    chats.stream("g2", "hello", is_last=True)

    assert chats.seen == [("c7", "", False), ("c7", "he", False), ("c7", "hello", True)]


def test_a_card_that_was_never_made_is_unknown(chats: Chats) -> None:
    with pytest.raises(Refusal) as refused:
        chats.stream("g1", "he")

    assert refused.value.answer[1]["code"] == "param.stream.outTrackId"
