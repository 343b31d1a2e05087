"""Custom group robots: address, signature, message and what a refusal means, against a strict fake on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from integrations import pacing
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.feishu import robot
from integrations.pacing import Limit
from integrations.robots import RobotAddress
from integrations.traffic import HeldBack

from .conftest import vectors

HOOK = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
SECRET = "secret-of-the-robot"
BASES = ("https://open.feishu.example", *robot.ORIGINS)
BODY_LIMIT_BYTES = 20 * 1024


class FakeRobot:
    """A robot of one group, as strict as Feishu's. ``answers`` are given instead of the right one, first one first."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{robot.PATH}{HOOK}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def texts(self) -> list[str]:
        return [self._text(body) for body in self.bodies]

    def _text(self, body: dict[str, Any]) -> str:
        if body["msg_type"] == "text":
            return str(body["content"]["text"])
        return str(body["card"]["body"]["elements"][0]["content"])

    def _answer(self, raw: bytes) -> Any:
        if self.answers:
            return self.answers.pop(0)
        body = json.loads(raw)
        stamp = body.get("timestamp", "")
        is_signed = body.get("sign") == robot.sign(stamp, SECRET) and abs(time.time() - int(stamp)) < 3600
        if not is_signed:
            return {"code": 19021, "msg": "sign match fail or timestamp is not within one hour from current time"}
        if len(raw) > BODY_LIMIT_BYTES:
            return {"code": 9499, "msg": "Bad Request"}
        self.bodies.append(body)
        return {"code": 0, "msg": "success", "data": {}, "StatusCode": 0}

    def _handler(fake: FakeRobot) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer = fake._answer(self.rfile.read(int(self.headers["Content-Length"])))
                if answer is None:
                    return  # the connection is cut
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def group() -> Iterator[FakeRobot]:
    fake = FakeRobot()
    yield fake
    fake.close()


@pytest.fixture
def own(group: FakeRobot, request: pytest.FixtureRequest) -> RobotAddress:
    return RobotAddress(request.node.name, group.url, SECRET)


@pytest.mark.parametrize("vector", vectors("custom_bot_sign"))
def test_signature_is_the_vectors(vector: dict[str, Any]) -> None:
    made = robot.sign(vector["input"]["timestamp"], vector["input"]["secret"])

    assert made == vector["expect"]["sign"]
    assert made not in vector["expect"]["must_not_equal"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (HOOK, f"https://open.feishu.example{robot.PATH}{HOOK}"),
        (f" https://open.feishu.cn{robot.PATH}{HOOK}\n", f"https://open.feishu.cn{robot.PATH}{HOOK}"),
        (f"https://OPEN.larksuite.com{robot.PATH}{HOOK}/", f"https://open.larksuite.com{robot.PATH}{HOOK}"),
    ],
)
def test_address_is_rebuilt_from_what_was_pasted(given: str, kept: str) -> None:
    assert robot.address(given, BASES) == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        "short",
        f"https://evil.example{robot.PATH}{HOOK}",
        f"http://open.feishu.cn{robot.PATH}{HOOK}",
        f"https://open.feishu.cn@evil.example{robot.PATH}{HOOK}",
        f"https://open.feishu.cn:8443{robot.PATH}{HOOK}",
        f"https://open.feishu.cn/open-apis/bot/hook/{HOOK}",
        f"https://open.feishu.cn{robot.PATH}",
        f"https://open.feishu.cn{robot.PATH}../../{HOOK}",
        "https://[",
    ],
)
def test_address_of_no_robot_is_refused_in_words(given: str) -> None:
    with pytest.raises(ValueError, match=r"begins with https://open\.feishu\.example/open-apis/bot/v2/hook/"):
        robot.address(given, BASES)


def test_plain_message_arrives_signed(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    robot.send(own, "", "你好 😀", http)

    (body,) = group.bodies
    assert (body["msg_type"], body["content"]) == ("text", {"text": "你好 😀"})


def test_text_is_shown_sign_for_sign_under_its_title(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    robot.send(own, "Alarm", "**disk** <at user_id=all>x</at>", http, is_markdown=False)

    (body,) = group.bodies
    assert body["msg_type"] == "text"
    assert body["content"]["text"].startswith("Alarm\n**disk** ")
    assert "<at user_id" not in body["content"]["text"]


def test_markdown_arrives_as_a_card_under_its_title(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    robot.send(own, "Alarm", "**disk** is ![full](https://e.com/x.png)", http)

    (body,) = group.bodies
    assert body["card"] == {
        "schema": "2.0",
        "header": {"title": {"tag": "plain_text", "content": "Alarm"}},
        "body": {"elements": [{"tag": "markdown", "content": "**disk** is full (https://e.com/x.png)"}]},
    }


@pytest.mark.parametrize("text", ['<at user_id="all">all</at>', "**x** <at id=all></at>", "`<at id=all></at>`"])
def test_message_rings_at_nobody(group: FakeRobot, own: RobotAddress, http: httpx.Client, text: str) -> None:
    robot.send(own, text, text, http)

    assert "<at" not in json.dumps(group.bodies, ensure_ascii=False)


def test_long_message_is_cut_within_the_limit_and_says_so(
    group: FakeRobot, own: RobotAddress, http: httpx.Client
) -> None:
    robot.send(own, "Report", "第一行：这是一份很长的报告。\n\n" * 3_000, http)

    assert len(group.bodies) == robot.MOST_PARTS
    assert group.texts()[-1].endswith("…")
    assert ["header" in body["card"] for body in group.bodies] == [True, False, False]


@pytest.mark.parametrize(("title", "text"), [("", ""), ("", " \n")])
def test_message_of_nothing_is_refused_without_a_call(
    group: FakeRobot, own: RobotAddress, http: httpx.Client, title: str, text: str
) -> None:
    with pytest.raises(PlatformError, match="nothing in it") as error:
        robot.send(own, title, text, http)

    assert error.value.permanent


def test_robot_without_a_secret_is_not_signed(group: FakeRobot, http: httpx.Client) -> None:
    group.answers = [{"code": 0}]
    robot.send(RobotAddress("no-secret", group.url), "", "hi", http)

    assert group.answers == []
    with pytest.raises(PlatformError, match="19021"):
        robot.send(RobotAddress("no-secret", group.url), "", "hi", http)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (19001, "no such robot"),
        (19021, "clock is more than an hour off"),
        (19022, "not on the robot's list"),
        (19024, "none of the keywords"),
    ],
)
def test_refusal_says_what_to_do(
    group: FakeRobot, own: RobotAddress, http: httpx.Client, code: int, words: str
) -> None:
    group.answers = [{"code": code, "msg": "no"}]

    with pytest.raises(PlatformError, match=f"{words}.*code {code}") as error:
        robot.send(own, "", "hi", http)

    assert error.value.permanent


def test_card_that_is_not_understood_comes_as_text(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    group.answers = [{"code": 9499, "msg": "Bad Request"}]
    robot.send(own, "Alarm", "**disk**", http)

    assert group.texts() == ["Alarm\n**disk**"]


def test_text_that_is_not_understood_is_told(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    group.answers = [{"code": 9499, "msg": "Bad Request"}]

    with pytest.raises(PlatformError, match="9499"):
        robot.send(own, "", "hi", http)


def test_too_many_messages_rest_the_robot(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    group.answers = [{"code": 11232, "msg": "frequency limited"}]
    with pytest.raises(PlatformError) as error:
        robot.send(own, "", "hi", http)
    assert (error.value.permanent, error.value.retry_after_s) == (False, 60.0)

    with pytest.raises(HeldBack, match="100 a minute"):
        robot.send(own, "", "again", http)

    assert group.bodies == []


@pytest.mark.parametrize("answer", [None, (502, {}), (504, {})], ids=str)
def test_message_whose_answer_is_lost_is_not_repeated(
    group: FakeRobot, own: RobotAddress, http: httpx.Client, answer: Any
) -> None:
    group.answers = [answer]

    with pytest.raises(OutcomeUnknown, match="may have arrived"):
        robot.send(own, "", "hi", http)

    assert group.bodies == []


@pytest.mark.parametrize("answer", [(500, {}), (503, {"code": 2200, "msg": "internal"})], ids=str)
def test_trouble_of_the_platform_may_be_tried_again(
    group: FakeRobot, own: RobotAddress, http: httpx.Client, answer: Any
) -> None:
    group.answers = [answer]

    with pytest.raises(PlatformError) as error:
        robot.send(own, "", "hi", http)

    assert not error.value.permanent


def test_server_that_is_not_there_is_told_in_words(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    group.close()

    with pytest.raises(PlatformError, match="not reached") as error:
        robot.send(own, "", "hi", http)

    assert not error.value.permanent


def test_address_and_secret_are_in_no_error(group: FakeRobot, own: RobotAddress, http: httpx.Client) -> None:
    for answer in ({"code": 19021, "msg": "no"}, (404, {}), None):
        group.answers = [answer]
        with pytest.raises(PlatformError) as error:
            robot.send(own, "", "hi", http)
        assert HOOK not in str(error.value)
        assert SECRET not in str(error.value)


def test_pace_keeps_within_what_feishu_allows() -> None:
    assert most_in(1.0, robot.PACE) <= 5
    assert most_in(60.0, robot.PACE) <= 100
    assert robot.PACE.interval_s < pacing.LONGEST_WAIT_S


def most_in(seconds: float, limit: Limit) -> int:
    return limit.burst + int(seconds / limit.interval_s)
