"""A small strict Feishu on a real socket: tokens, messages, card entities, and faults on demand."""

from __future__ import annotations

import fnmatch
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .fake_lookups import File, Lookups, Refusal

Json = dict[str, Any]

TOKEN = "POST */tenant_access_token/internal"
SEND = "POST */im/v1/messages*"
CREATE_CARD = "POST */cardkit/v1/cards"
UPDATE = "PUT */content"
SETTINGS = "PATCH */settings"

CUT_BEFORE, CUT_AFTER = "cut before", "cut after"
MESSAGE_LIMIT_BYTES = {"text": 150 * 1024}
OTHER_LIMIT_BYTES = 30 * 1024
MENTION = re.compile(r"<at\s+(?:user_id|id|ids|email|open_id)\s*=", re.IGNORECASE)
PICTURE = re.compile(r"!\[[^\]]*\]\(\s*(?!img_)[^)]*\)")
TABLE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)+\|?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """A refusal, or any other answer given instead of the right one."""

    status: int
    body: Any
    headers: tuple[tuple[str, str], ...] = ()


Fault = Answer | str


RATE_LIMITED = Answer(429, {"code": 99991400, "msg": "frequency limit"}, (("x-ogw-ratelimit-reset", "0.02"),))
NO_CARD_SCOPE = Answer(400, {"code": 99991672, "msg": "Access denied. scopes required: [cardkit:card:write]"})
SERVER_ERROR = Answer(500, "internal error")


def refused(code: int, msg: str = "no") -> Answer:
    return Answer(400, {"code": code, "msg": msg})


@dataclass
class Message:
    id: str
    place: str  # chat id, or the open_id of a person
    msg_type: str
    content: Json
    reply_to: str = ""

    @property
    def text(self) -> str:
        if self.msg_type == "text":
            return str(self.content["text"])
        return "\n".join(e["text"] for row in self.content["zh_cn"]["content"] for e in row)


@dataclass
class Card:
    id: str
    data: Json
    sequence: int = 0
    sequences: list[int] = field(default_factory=list)
    uuids: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    is_sent: bool = False

    @property
    def is_streaming(self) -> bool:
        return bool(self.data["config"].get("streaming_mode"))

    @property
    def text(self) -> str:
        return str(self.data["body"]["elements"][0]["content"])


class FakeFeishu:
    """``messages`` and ``cards`` are what people see; ``calls`` what was asked for, as ``METHOD /path``."""

    def __init__(self) -> None:
        self.app_id, self.app_secret, self.open_id = "cli_1", "secret-of-the-app", "ou_bot"
        self.messages: list[Message] = []
        self.cards: dict[str, Card] = {}
        self.calls: list[str] = []
        self.tokens: set[str] = set()
        self.gone: set[str] = set()
        self.lookups = Lookups()
        self.reactions: dict[str, tuple[str, str]] = {}
        self.expires_in_s = 7200
        self.token_takes_s = self.reaction_takes_s = 0.0
        self.clock_ahead_s = 0.0
        self._uuids: dict[str, str] = {}
        self._faults: deque[tuple[str, Fault]] = deque()
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FakeFeishu:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def trouble(self, pattern: str, fault: Fault, times: int = 1) -> None:
        """The next calls that match ``pattern`` meet ``fault``."""
        self._faults.extend([(pattern, fault)] * times)

    def asked(self, pattern: str) -> int:
        return sum(_is_meant(call, pattern) for call in self.calls)

    @property
    def texts(self) -> list[str]:
        """What people read, card texts in their place."""
        return [
            self.cards[m.content["data"]["card_id"]].text if m.msg_type == "interactive" else m.text
            for m in self.messages
        ]

    # -- calls

    def handle(self, method: str, target: str, headers: dict[str, str], raw: bytes) -> Answer | None:
        """The answer, or None to cut the connection."""
        url = urlsplit(target)
        call = f"{method} {url.path}"
        with self._lock:
            self.calls.append(call)
            fault = self._take(call)
        if call.endswith("/reactions"):
            time.sleep(self.reaction_takes_s)
        if fault == CUT_BEFORE:
            return None
        if isinstance(fault, Answer):
            return fault
        try:
            answer = Answer(200, self._answer(method, url.path, parse_qs(url.query), headers, raw))
        except Refusal as refusal:
            answer = Answer(refusal.status, {"code": refusal.code, "msg": refusal.msg})
        return None if fault == CUT_AFTER else answer

    def _take(self, call: str) -> Fault | None:
        for planned in self._faults:
            if _is_meant(call, planned[0]):
                self._faults.remove(planned)
                return planned[1]
        return None

    def _answer(self, method: str, path: str, query: dict[str, list[str]], headers: dict[str, str], raw: bytes) -> Any:
        body = json.loads(raw) if raw else {}
        if path.endswith("/tenant_access_token/internal"):
            return self._token(body)
        with self._lock:
            self._authorise(headers)
            match path.removeprefix("/open-apis").strip("/").split("/"), method:
                case ["bot", "v3", "info"], "GET":
                    return {"code": 0, "msg": "ok", "bot": {"open_id": self.open_id}}
                case ["im", "v1", "messages"], "POST":
                    assert query["receive_id_type"][0] in ("chat_id", "open_id")
                    return self._post(body, body["receive_id"], "", raw)
                case ["im", "v1", "messages", message_id, "reply"], "POST":
                    if message_id in self.gone:
                        raise Refusal(230011, "The message was withdrawn.")
                    return self._post(body, "oc_1", message_id, raw)
                case ["im", "v1", "messages", message_id, "reactions"], "POST":
                    self.reactions[f"r{len(self.calls)}"] = (message_id, body["reaction_type"]["emoji_type"])
                    return _data({"reaction_id": f"r{len(self.calls)}"})
                case ["im", "v1", "messages", _, "reactions", reaction_id], "DELETE":
                    if self.reactions.pop(reaction_id, None) is None:
                        raise Refusal(231007, "reaction is not found")
                    return _data({})
                case parts, "GET":
                    return self.lookups.answer(parts, query)
                case ["cardkit", "v1", "cards"], "POST":
                    return self._create_card(body)
                case ["cardkit", "v1", "cards", card_id, "elements", "answer", "content"], "PUT":
                    return self._stream(self.cards[card_id], body)
                case ["cardkit", "v1", "cards", card_id, "elements", element_id], "PUT" | "DELETE":
                    return self._replace(self.cards[card_id], element_id, body)
                case ["cardkit", "v1", "cards", card_id, "settings"], "PATCH":
                    return self._settings(self.cards[card_id], body)
        raise Refusal(99991404, f"404 page not found: {path}", 404)

    def _token(self, body: Json) -> Json:
        time.sleep(self.token_takes_s)
        if body != {"app_id": self.app_id, "app_secret": self.app_secret}:
            raise Refusal(10015, "app secret invalid")
        with self._lock:
            token = next(iter(self.tokens), f"t-{len(self.calls)}")
            self.tokens.add(token)
        return {"code": 0, "msg": "ok", "tenant_access_token": token, "expire": self.expires_in_s}

    def _authorise(self, headers: dict[str, str]) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise Refusal(99991663, "Invalid access token for authorization.")

    def _post(self, body: Json, place: str, reply_to: str, raw: bytes) -> Json:
        uuid = body["uuid"]
        assert 1 <= len(uuid) <= 50
        if uuid in self._uuids:
            return _data({"message_id": self._uuids[uuid]})
        if len(raw) > MESSAGE_LIMIT_BYTES.get(body["msg_type"], OTHER_LIMIT_BYTES):
            raise Refusal(230025, "too long")
        message = Message(
            f"om_{len(self.messages) + 1}", place, body["msg_type"], json.loads(body["content"]), reply_to
        )
        if message.msg_type == "interactive":
            self._show(self.cards[message.content["data"]["card_id"]])
        else:
            _check_text(message.text, 230001)
        self.messages.append(message)
        self._uuids[uuid] = message.id
        return _data({"message_id": message.id})

    def _show(self, card: Card) -> None:
        if card.is_sent:
            raise Refusal(230099, "Failed to create card content, ext=ErrCode: 200750; already sent")
        card.is_sent = True

    def _create_card(self, body: Json) -> Json:
        assert body["type"] == "card_json"
        data = json.loads(body["data"])
        assert data["schema"] == "2.0"
        assert data["config"]["update_multi"] is True
        card = Card(f"card{len(self.cards) + 1}", data)
        _check_card(card)
        card.texts.append(card.text)
        self.cards[card.id] = card
        return _data({"card_id": card.id})

    def _stream(self, card: Card, body: Json) -> Json:
        if self._is_repeated(card, body):
            return _data({})
        if not card.is_streaming:
            raise Refusal(300309, "streaming mode is closed")
        element = card.data["body"]["elements"][0]
        before, element["content"] = element["content"], body["content"]
        try:
            _check_card(card)
        except Refusal:
            element["content"] = before
            raise
        card.texts.append(card.text)
        return self._operated(card, body)

    def _replace(self, card: Card, element_id: str, body: Json) -> Json:
        if self._is_repeated(card, body):
            return _data({})
        elements = card.data["body"]["elements"]
        places = [i for i, element in enumerate(elements) if element.get("element_id") == element_id]
        if not places:
            raise Refusal(300313, "element not found")
        elements[places[0] : places[0] + 1] = [json.loads(body["element"])] if "element" in body else []
        _check_card(card)
        return self._operated(card, body)

    def _settings(self, card: Card, body: Json) -> Json:
        if self._is_repeated(card, body):
            return _data({})
        card.data["config"].update(json.loads(body["settings"])["config"])
        return self._operated(card, body)

    def _is_repeated(self, card: Card, body: Json) -> bool:
        uuid, sequence = body["uuid"], body["sequence"]
        assert 1 <= len(uuid) <= 64
        assert 1 <= sequence < 2**31
        if card.uuids.get(uuid) == sequence:
            return True
        if sequence <= card.sequence:
            raise Refusal(300317, f"sequence must be greater than {card.sequence}")
        return False

    def _operated(self, card: Card, body: Json) -> Json:
        card.sequence = card.uuids[body["uuid"]] = body["sequence"]
        card.sequences.append(card.sequence)
        return _data({})


def _check_card(card: Card) -> None:
    if len(json.dumps(card.data, ensure_ascii=False).encode()) > OTHER_LIMIT_BYTES:
        raise Refusal(200860, "card content over size limit")
    _check_text(card.text, 300313)


def _check_text(text: str, code: int) -> None:
    if not text.strip():
        raise Refusal(code, "text is empty")
    if PICTURE.search(text) or len(TABLE.findall(text)) > 3:
        raise Refusal(code, "invalid image keys, or too many tables")
    assert not MENTION.search(text), f"a forged mention reached the platform: {text!r}"


def _is_meant(call: str, pattern: str) -> bool:
    """A reaction stands under a message, but sends none."""
    is_sign = pattern == SEND and call.endswith("/reactions")
    return fnmatch.fnmatchcase(call, pattern) and not is_sign


def _data(data: Json) -> Json:
    return {"code": 0, "msg": "success", "data": data}


def _written(body: Any) -> tuple[bytes, str]:
    if isinstance(body, File):
        return body.data, body.media_type
    text = body if isinstance(body, str) else json.dumps(body)
    return text.encode(), "application/json; charset=utf-8"


def _handler(fake: FakeFeishu) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = fake.handle(self.command, self.path, headers, raw)
            if answer is None:
                self.close_connection = True
                return
            content, kind = _written(answer.body)
            lines = [f"HTTP/1.1 {answer.status} X", f"Content-Length: {len(content)}", f"Content-Type: {kind}"]
            lines += [f"{name}: {value}" for name, value in answer.headers]
            self.wfile.write("\r\n".join([*lines, "", ""]).encode() + content)

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Of the answer to HEAD, which this Feishu knows as little as the real one."""
            return super().date_time_string((timestamp or time.time()) + fake.clock_ahead_s)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
