"""Feishu and DingTalk as far as replies need them: strict on ids, fast, and a record of what each person sees.

Pure state machines: a call in, an answer out. ``tests.chaos.fake`` puts them on a socket.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Answer = tuple[int, Json]
Record = Callable[[str, str, str, bool], None]  # chat, item, text, is it complete
UUID_LIVES_S = 3600.0
USED_SEQUENCE, NO_STREAMING, CARD_SENT, BAD_TOKEN = 300317, 300309, 230099, 99991663


class Refusal(Exception):
    def __init__(self, status: int, answer: Json) -> None:
        super().__init__(answer)
        self.answer = status, answer


def feishu_refusal(code: int) -> Refusal:
    return Refusal(400, {"code": code, "msg": "no"})


def dingtalk_refusal(code: str) -> Refusal:
    return Refusal(400, {"code": code, "message": "no", "requestid": "r"})


def chat_of(message_id: str) -> str:
    """The chat that a message, a person or a session belongs to: the first part of its name."""
    found = re.search(r"c\d+", message_id)
    if not found:
        raise LookupError(message_id)
    return found[0]


@dataclass(slots=True)
class Card:
    text: str
    is_streaming: bool = True
    chat: str = ""
    sequence: int = 0
    is_ended: bool = False


class Feishu:
    TOKEN = "t-chaos"

    def __init__(self, record: Record) -> None:
        self._record = record
        self._cards: dict[str, Card] = {}
        self._sent: dict[str, tuple[float, str]] = {}  # uuid -> when, message id
        self._done: dict[tuple[str, str], int] = {}  # (card, uuid of an operation) -> its sequence

    def answer(self, method: str, path: str, token: str, body: Json) -> Answer:
        parts = path.partition("?")[0].removeprefix("/open-apis/").split("/")
        if parts[:2] == ["auth", "v3"]:
            return 200, {"code": 0, "msg": "ok", "tenant_access_token": self.TOKEN, "expire": 7200}
        if token != f"Bearer {self.TOKEN}":
            raise feishu_refusal(BAD_TOKEN)
        match method, parts:
            case "POST", ["im", "v1", "messages", message_id, "reply"]:
                return self._once(body, chat_of(message_id))
            case "POST", ["im", "v1", "messages"]:
                return self._once(body, chat_of(body["receive_id"]))
            case "POST", ["cardkit", "v1", "cards"]:
                return self._create(json.loads(body["data"]))
            case "PUT", ["cardkit", "v1", "cards", card_id, "elements", _, "content"]:
                return self._operate(card_id, body, self._write)
            case "PATCH", ["cardkit", "v1", "cards", card_id, "settings"]:
                return self._operate(card_id, body, self._settings)
            case "PUT" | "DELETE", ["cardkit", "v1", "cards", card_id, "elements", _]:
                return self._operate(card_id, body, lambda _card, _body: None)  # buttons: no words in them
            case "POST", ["im", "v1", "messages", _, "reactions"]:
                return _ok(reaction_id="r1")
            case "DELETE", ["im", "v1", "messages", _, "reactions", _]:
                return _ok()
        raise Refusal(404, {"code": 99991404, "msg": "no such call"})

    def _once(self, body: Json, chat: str) -> Answer:
        """A repeated uuid shows nothing new for an hour."""
        sent_s, message_id = self._sent.get(body["uuid"], (float("-inf"), ""))
        if time.monotonic() - sent_s > UUID_LIVES_S:
            message_id = f"om_{len(self._sent)}"
            self._show(message_id, chat, body)
            self._sent[body["uuid"]] = time.monotonic(), message_id
        return _ok(message_id=message_id)

    def _show(self, message_id: str, chat: str, body: Json) -> None:
        content = json.loads(body["content"])
        if body["msg_type"] == "interactive":
            return self._send_card(content["data"]["card_id"], chat)
        text = content.get("text") or content["zh_cn"]["content"][0][0]["text"]
        return self._record(chat, message_id, text, True)

    def _send_card(self, card_id: str, chat: str) -> None:
        card = self._cards[card_id]
        if card.chat:
            raise feishu_refusal(CARD_SENT)
        card.chat = chat
        self._seen(card_id)

    def _create(self, data: Json) -> Answer:
        card_id = f"card{len(self._cards)}"
        text = data["body"]["elements"][0]["content"]
        self._cards[card_id] = Card(text, is_streaming=data["config"].get("streaming_mode", False))
        return _ok(card_id=card_id)

    def _operate(self, card_id: str, body: Json, operation: Callable[[Card, Json], None]) -> Answer:
        card, uuid, sequence = self._cards[card_id], body["uuid"], body["sequence"]
        if self._done.get((card_id, uuid)) == sequence:
            return _ok()
        if sequence <= card.sequence:
            raise feishu_refusal(USED_SEQUENCE)
        operation(card, body)
        card.sequence = self._done[card_id, uuid] = sequence
        self._seen(card_id)
        return _ok()

    def _write(self, card: Card, body: Json) -> None:
        if not card.is_streaming:
            raise feishu_refusal(NO_STREAMING)
        card.text = body["content"]

    def _settings(self, card: Card, body: Json) -> None:
        card.is_streaming = json.loads(body["settings"])["config"].get("streaming_mode", card.is_streaming)

    def _seen(self, card_id: str) -> None:
        card = self._cards[card_id]
        if card.chat:
            self._record(card.chat, card_id, card.text, not card.is_streaming)


def _ok(**data: str) -> Answer:
    return 200, {"code": 0, "msg": "success", "data": data}


class DingTalk:
    TOKEN = "chaos-token"

    def __init__(self, record: Record, gateway: str = "") -> None:
        """``gateway``: the WebSocket that whoever opens a long connection is sent to."""
        self._record, self._gateway = record, gateway
        self._cards: dict[str, Card] = {}
        self._guids: set[tuple[str, str]] = set()
        self._messages = 0

    def answer(self, method: str, path: str, token: str, body: Json) -> Answer:
        name, _, query = path.partition("?")
        if name == "/robot/sendBySession":
            part = body[body["msgtype"]]
            self._send(chat_of(query), part.get("text") or part["content"])
            return 200, {"errcode": 0, "errmsg": "ok"}
        if name == "/v1.0/oauth2/accessToken":
            return 200, {"accessToken": self.TOKEN, "expireIn": 7200}
        if name == "/v1.0/gateway/connections/open":
            return 200, {"endpoint": self._gateway, "ticket": "chaos"}
        if token != self.TOKEN:
            raise dingtalk_refusal("InvalidAuthentication")
        match name:
            case "/v1.0/robot/oToMessages/batchSend":
                param = json.loads(body["msgParam"])
                self._send(chat_of(body["userIds"][0]), param.get("text") or param["content"])
                return 200, {"processQueryKey": "k", "invalidStaffIdList": [], "flowControlledStaffIdList": []}
            case "/v1.0/card/instances/createAndDeliver":
                return self._create(body)
            case "/v1.0/card/streaming":
                return self._stream(body)
        raise Refusal(404, {"code": "InvalidAction.NotFound", "message": "no such call"})

    def _send(self, chat: str, text: str) -> None:
        """No id: every call is one more message."""
        self._messages += 1
        self._record(chat, f"msg{self._messages}", text, True)

    def _create(self, body: Json) -> Answer:
        """The same outTrackId never makes a second card."""
        track_id, place = body["outTrackId"], body["openSpaceId"]
        if track_id not in self._cards:
            self._cards[track_id] = Card("", chat=chat_of(place))
            self._record(chat_of(place), track_id, "", False)
        spaces = [{"spaceType": "IM_ROBOT", "spaceId": place, "success": True, "carrierId": "1"}]
        return 200, {"success": True, "result": {"outTrackId": track_id, "deliverResults": spaces}}

    def _stream(self, body: Json) -> Answer:
        card = self._cards.get(body["outTrackId"])
        if card is None:
            raise dingtalk_refusal("param.stream.outTrackId")
        if not body["content"] and not body["isError"]:
            raise dingtalk_refusal("param.stream.contentEmpty")
        key = body["outTrackId"], body["guid"]
        if key not in self._guids:
            self._guids.add(key)
            card.text, card.is_ended = body["content"], bool(body["isFinalize"])
            self._record(card.chat, body["outTrackId"], card.text, card.is_ended)
        return 200, {"success": True, "result": True}
