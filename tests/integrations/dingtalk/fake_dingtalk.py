"""A small strict DingTalk on real sockets: both hosts, sessions, robot sending, cards, and faults on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from integrations.dingtalk.crypto import callback_signature

Json = dict[str, Any]

SESSION = "/robot/sendBySession"
ROBOT = "/robot/send"
TOKEN = "/v1.0/oauth2/accessToken"
TO_USER = "/v1.0/robot/oToMessages/batchSend"
TO_GROUP = "/v1.0/robot/groupMessages/send"
CREATE = "/v1.0/card/instances/createAndDeliver"
STREAM = "/v1.0/card/streaming"
REGISTER = "/v1.0/card/callbacks/register"
DOWNLOAD = "/v1.0/robot/messageFiles/download"
DEPARTMENTS = "/topapi/v2/department/listparentbyuser"
FILE = "/file/"

CUT_BEFORE, CUT_AFTER, HANG = "cut before", "cut after", "hang"
QPS = (403, {"code": "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", "message": "qps"})
OVER_QUOTA = (403, {"code": "Forbidden.AccessDenied.ApiCountLimitForOrg", "message": "no"})
Fault = str | tuple[int, Any]


class Refusal(Exception):
    def __init__(self, code: str, status: int = 400) -> None:
        self.answer = status, {"code": code, "message": "no", "requestid": "r"}


@dataclass
class Card:
    texts: list[str] = field(default_factory=list)
    guids: set[str] = field(default_factory=set)
    ends: list[str] = field(default_factory=list)


@dataclass
class FakeDingTalk:
    app_id: str = "dingapp"
    app_secret: str = "secret-of-the-app"
    staff: tuple[str, ...] = ("staff0001",)
    groups: tuple[str, ...] = ("cidGroup==",)
    sessions: set[str] = field(default_factory=lambda: {"s1"})
    token: str = "token-1"
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    calls: list[tuple[str, Json]] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    cards: dict[str, Card] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # download code -> content
    departments: dict[str, list[list[int]]] = field(default_factory=dict)  # person -> chains up to the root
    routes: dict[str, Json] = field(default_factory=dict)  # of cards
    robots: dict[str, str] = field(default_factory=dict)  # access token -> signing secret
    uuids: set[str] = field(default_factory=set)  # of messages of custom robots
    oddities: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._servers = [_Server(self, host) for host in ("api", "oapi", "foreign")]
        self.api_url, self.oapi_url, self.foreign_url = (server.url for server in self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.stop()

    @property
    def webhook(self) -> str:
        return f"{self.oapi_url}{SESSION}?session=s1"

    def fail(self, path: str, *faults: Fault) -> None:
        self.faults[path].extend(faults)

    def paths(self) -> list[str]:
        return [path for path, _ in self.calls if path != TOKEN]

    def count(self, path: str) -> int:
        return [called for called, _ in self.calls].count(path)

    # -- calls --------------------------------------------------------------------------------------------------

    def answer(self, host: str, path: str, query: dict[str, list[str]], token: str, body: Json) -> tuple[int, Any]:
        if path == ROBOT:
            return 200, self._by_robot(query, body)
        if path == DEPARTMENTS:
            return 200, self._departments(query, body)
        if host == "oapi":
            return 200, self._by_session(query.get("session", [""])[0], body)
        if path == TOKEN:
            return self._give_token(body)
        if token != self.token:
            raise Refusal("InvalidAuthentication")
        calls = {
            TO_USER: self._to_user,
            TO_GROUP: self._to_group,
            CREATE: self._create,
            STREAM: self._stream,
            REGISTER: self._register,
            DOWNLOAD: self._download,
        }
        return 200, calls[path](body)

    def _give_token(self, body: Json) -> tuple[int, Any]:
        if body != {"appKey": self.app_id, "appSecret": self.app_secret}:
            raise Refusal("invalidClientIdOrSecret")
        return 200, {"accessToken": self.token, "expireIn": 7200}

    def _register(self, body: Json) -> Json:
        self.routes[body["callbackRouteKey"]] = body
        return {"success": True, "result": {"callbackUrl": body["callbackUrl"], "apiSecret": body["apiSecret"]}}

    def _download(self, body: Json) -> Json:
        if body["robotCode"] != self.app_id or body["downloadCode"] not in self.files:
            raise Refusal("invalidParameter.robotCode.downloadCode")
        return {"downloadUrl": f"{self.foreign_url}{FILE}{body['downloadCode']}.file?Expires=9"}

    def _departments(self, query: dict[str, list[str]], body: Json) -> Json:
        if query.get("access_token") != [self.token]:
            return {"errcode": 40014, "errmsg": "不合法的access_token"}
        if body["userid"] not in self.departments:
            return {"errcode": 60121, "errmsg": "找不到该用户"}
        chains = [{"parent_dept_id_list": chain} for chain in self.departments[body["userid"]]]
        return {"errcode": 0, "errmsg": "ok", "result": {"parent_list": chains}}

    def _by_robot(self, query: dict[str, list[str]], body: Json) -> Json:
        given = {name: values[0] for name, values in query.items()}
        secret = self.robots.get(given.get("access_token", ""))
        if secret is None:
            return {"errcode": 400101, "errmsg": "access_token 不存在"}
        if secret and given.get("sign") != callback_signature(given.get("timestamp", ""), secret):
            return {"errcode": 310000, "errmsg": "sign not match"}
        part = body[body["msgtype"]]
        if body.get("at", {}).get("isAtAll"):
            self.oddities.append("rang at everybody")
        if body["msgUuid"] not in self.uuids:
            self.uuids.add(body["msgUuid"])
            self.seen.append(("robot", part.get("text") or part["content"]))
        return {"errcode": 0, "errmsg": "ok"}

    def _by_session(self, session: str, body: Json) -> Json:
        if session not in self.sessions:
            return {"errcode": 300001, "errmsg": "session 不存在"}
        part = body[body["msgtype"]]
        needed = {"markdown": {"title", "text"}, "text": {"content"}}[body["msgtype"]]
        if set(part) != needed or not all(part.values()):
            return {"errcode": 40035, "errmsg": "缺少参数"}
        if len(json.dumps(body, ensure_ascii=False).encode()) > 20_000:
            return {"errcode": 460101, "errmsg": "message too long"}
        self.seen.append(("webhook", part.get("text") or part["content"]))
        return {"errcode": 0, "errmsg": "ok"}

    def _to_user(self, body: Json) -> Json:
        text = self._sample(body)
        invalid = [user for user in body["userIds"] if user not in self.staff]
        if not invalid:
            self.seen.append(("user", text))
        return {"processQueryKey": "k1", "invalidStaffIdList": invalid, "flowControlledStaffIdList": []}

    def _to_group(self, body: Json) -> Json:
        if body["openConversationId"] not in self.groups:
            raise Refusal("invalid.openConversationId")
        self.seen.append(("group", self._sample(body)))
        return {"processQueryKey": "k2"}

    def _sample(self, body: Json) -> str:
        if body["robotCode"] != self.app_id:
            raise Refusal("invalidParameter.robotCode.notExsit")
        if len(body["msgParam"].encode()) > 15_000:
            raise Refusal("invalidParameter.msgParam.tooLong")
        param = json.loads(body["msgParam"])
        if not all(
            param[key] for key in {"sampleMarkdown": ("title", "text"), "sampleText": ("content",)}[body["msgKey"]]
        ):
            raise Refusal("invalidParameter.msgParam.invalid")
        return str(param.get("text") or param["content"])

    def _create(self, body: Json) -> Json:
        if body["outTrackId"] in self.cards:
            self.oddities.append("created twice")
        self.cards.setdefault(body["outTrackId"], Card())
        kind, _, place = body["openSpaceId"].removeprefix("dtv1.card//").partition(".")
        known = {"IM_GROUP": self.groups, "IM_ROBOT": self.staff}[kind]
        result = {"spaceType": kind, "spaceId": place, "success": place in known, "carrierId": "c1"}
        return {"success": True, "result": {"outTrackId": body["outTrackId"], "deliverResults": [result]}}

    def _stream(self, body: Json) -> Json:
        card = self.cards.get(body["outTrackId"])
        if card is None:
            raise Refusal("param.stream.outTrackId")
        if body["key"] != "content":
            raise Refusal("unknownError", 500)
        if body["isFull"] is not True or not body["guid"]:
            raise Refusal("param.stream.isFull")
        if not body["content"] and not body["isError"]:
            raise Refusal("param.stream.contentEmpty")
        if len(body["content"]) > 3072:
            raise Refusal("param.stream.content")
        if body["guid"] in card.guids:
            return {"success": True, "result": True}
        if card.ends:
            self.oddities.append("written on after its end")
        card.guids.add(body["guid"])
        card.texts.append(body["content"])
        card.ends += ["finished"] * body["isFinalize"] + ["failed"] * body["isError"]
        return {"success": True, "result": True}


class _Listener(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


class _Server:
    def __init__(self, fake: FakeDingTalk, host: str) -> None:
        self._http = _Listener(("127.0.0.1", 0), _handler(fake, host))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(fake: FakeDingTalk, host: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            url = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/json"
            fake.calls.append((f"{'' if host != 'foreign' else 'foreign:'}{url.path}", body))
            fault = fake.faults[url.path].popleft() if fake.faults[url.path] else None
            if fault == CUT_BEFORE:
                return self._cut()
            if fault == HANG:
                time.sleep(1.5)
                return self._cut()
            if isinstance(fault, tuple):
                return self._send(*fault)
            try:
                answer = fake.answer(
                    host, url.path, parse_qs(url.query), self.headers.get("x-acs-dingtalk-access-token", ""), body
                )
            except Refusal as refusal:
                answer = refusal.answer
            return self._cut() if fault == CUT_AFTER else self._send(*answer)

        do_PUT = do_POST

        def do_GET(self) -> None:
            """The object store: a header too many breaks the signature of its addresses."""
            fake.calls.append((self.path, dict(self.headers)))
            fault = fake.faults[FILE].popleft() if fake.faults[FILE] else None
            if fault == CUT_BEFORE:
                return self._cut()
            if isinstance(fault, tuple):
                return self._send(*fault)
            if {"Content-Type", "x-acs-dingtalk-access-token"} & set(self.headers):
                return self._send(403, "SignatureDoesNotMatch")
            return self._give(fake.files[self.path.removeprefix(FILE).partition(".file")[0]])

        def _give(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, status: int, answer: Any) -> None:
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{fake.foreign_url}{SESSION}")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
