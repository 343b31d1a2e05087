"""Every recorded vector is run here, by its kind; a kind that nobody runs fails. More is in the file of each part."""

from __future__ import annotations

import asyncio
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

import integrations.dingtalk
from clawdbot_site.security.outbound import guarded_client
from integrations.dingtalk import cards, content, events, robot
from integrations.dingtalk.cards import Message
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.crypto import EventKeys, callback_signature, verify_callback, verify_card_callback
from integrations.dingtalk.stream import DingTalkStream
from integrations.errors import AuthenticationError, NotTaken
from integrations.robots import RobotAddress
from integrations.values import CardAction, Credentials, Ignored, Inbound, IncomingMessage
from tests.integrations.doubles import MemoryTokens

from .conftest import VECTORS
from .fake_gateway import FakeGateway, Line

APP = "dingexampleclientid"
CREDENTIALS = Credentials(
    id="1",
    platform="dingtalk",
    app_id=APP,
    app_secret="example-client-secret",
    api_url="https://api.dingtalk.com",
    oapi_url="https://oapi.dingtalk.com",
    card_template_id="tmpl-0001.schema",
)
BASES = ("https://oapi.dingtalk.com",)
Vector = dict[str, Any]


def of(kinds: dict[str, Any]) -> list[Any]:
    return [pytest.param(v, id=v["id"]) for v in VECTORS if v["kind"] in kinds]


def judged(check: Callable[[], object]) -> str:
    """ "accepted", or the reason of the refusal as the vectors name it."""
    try:
        check()
    except AuthenticationError as problem:
        return str(problem).split(":")[0].replace(" ", "_")
    return "accepted"


# -- signatures and envelopes ---------------------------------------------------------------------------------------


def robot_callback_sign(given: Vector, expected: Vector) -> None:
    assert callback_signature(given["timestamp"], given["app_secret"]) == expected["sign"]


def robot_callback_verify(given: Vector, expected: Vector) -> None:
    verdict = judged(lambda: verify_callback(given["headers"], given["app_secret"], given["now_ms"]))
    assert verdict == expected.get("reason", "accepted")


def card_callback_verify(given: Vector, expected: Vector) -> None:
    now_ms = int(given["headers"]["x-ddpaas-signature-timestamp"])
    verdict = judged(lambda: verify_card_callback(given["headers"], given["api_secret"], now_ms))
    assert verdict == expected.get("reason", "accepted")
    if expected["accept"]:
        pressed = events.parse_card_action(json.loads(given["body"]))
        assert expected["actionIds"] == ["btn_like"]
        assert pressed == CardAction(user_id=expected["userId"], card_id=expected["outTrackId"], button="up")


def event_decrypt(given: Vector, expected: Vector) -> None:
    keys = EventKeys(given["token"], given["aes_key"], (given["owner_key"],))
    opened: list[bytes] = []
    verdict = judged(lambda: opened.append(keys.open(given["query"], given["body"]["encrypt"])))
    assert verdict == expected.get("reason", "accepted")
    assert [text.decode() for text in opened] == ([expected["plaintext"]] if expected["accept"] else [])


def event_reply(given: Vector, expected: Vector) -> None:
    keys = EventKeys(given["token"], given["aes_key"], (given["owner_key"],))
    random = given["random16"].encode()
    assert keys.seal(given["message"].encode(), given["timestamp"], given["nonce"], random) == expected["body"]


# -- custom robots --------------------------------------------------------------------------------------------------


def custom_robot_sign(given: Vector, expected: Vector) -> None:
    own = RobotAddress("1", robot.address(given["access_token"], BASES), given["secret"])
    assert robot.signed(own, given["timestamp_ms"]) == expected["url"]


def custom_robot_url(given: Vector, expected: Vector) -> None:
    with pytest.raises(ValueError, match="access_token"):
        robot.address(given["webhook"], BASES)
    assert expected["config_valid"] is False


def custom_robot_payload(given: Vector, expected: Vector) -> None:
    """Without mentions, of which ours has none."""
    body = {name: value for name, value in expected["body"].items() if name != "at"}
    part = body[given["msgtype"]]
    if given["msgtype"] == "actionCard":  # never sent: no part of ours can make one
        parts = pkgutil.iter_modules(integrations.dingtalk.__path__, "integrations.dingtalk.")
        assert [p.name for p in parts if "actionCard" in inspect.getsource(__import__(p.name, fromlist=["x"]))] == []
    else:
        ours = cards.webhook_message(Message(part.get("text") or part["content"], part.get("title", "")))
        assert ours == body


# -- what is sent ---------------------------------------------------------------------------------------------------


def session_webhook_payload(given: Vector, expected: Vector) -> None:
    """The SDK leaves out that DingTalk's page wants the id in the text too; ours begins with it."""
    body = cards.webhook_message(Message(given["text"], given.get("title", "")), given["at_user_ids"][0])
    assert json.loads(json.dumps(body).replace("@staff0001\\n\\n", "")) == expected["body"]


def openapi_request(given: Vector, expected: Vector) -> None:
    """Call by call, through a transport that keeps what was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        deliveries = {"outTrackId": "track-0002", "deliverResults": [{"success": True}]}
        told = {"accessToken": "tok-abc", "expireIn": 7200, "result": deliveries, "downloadUrl": "https://x/y"}
        return httpx.Response(200, json=told)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        _make(DingTalkClient(CREDENTIALS, http, MemoryTokens()), given, expected)
    last = asked[0] if expected["path"].endswith("accessToken") else asked[-1]
    body = json.loads(last.content)
    assert (last.method, last.url.path) == (expected["method"], expected["path"])
    assert _comparable(body) == _comparable(expected["body"])
    for name, value in expected.get("headers", {}).items():
        assert last.headers[name] == value


def _make(client: DingTalkClient, given: Vector, expected: Vector) -> None:
    match expected["path"].rpartition("/")[2]:
        case "accessToken" | "download":
            client.download_url(given.get("download_code", "x"))
        case "batchSend":
            text = json.loads(expected["body"]["msgParam"])
            message = cards.user_message(CREDENTIALS, "staff0001", Message(text["text"], text["title"]))
            client.send_to_user({**message, "userIds": given["user_ids"]})
        case "createAndDeliver":
            target = events.ReplyTarget(chat_id="cid", chat_type="direct", sender_id=given["user_id"])
            client.create_and_deliver_card(cards.card(CREDENTIALS, target, expected["body"]["outTrackId"]))
        case "streaming":
            body = expected["body"]
            how = {"is_final": body["isFinalize"], "is_error": body["isError"]}
            client.stream_card(cards.card_update(body["outTrackId"], body["guid"], body["content"], **how))
        case unknown:
            pytest.fail(f"nobody makes the call {unknown}")


def _comparable(body: Vector) -> Vector:
    """msgParam is JSON in a string. The SDK always adds the group's space model, which the page names for groups."""
    given = {name: value for name, value in body.items() if name != "imGroupOpenSpaceModel"}
    return {**given, "msgParam": json.loads(given["msgParam"])} if "msgParam" in given else given


# -- what comes in --------------------------------------------------------------------------------------------------


def inbound_classify(given: Vector, expected: Vector) -> None:
    body = {"conversationId": "cid", **given["body"]}
    found = events.parse_message(body, CREDENTIALS)
    if expected["kind"] == "platform_error":
        assert found == Ignored("over_quota")
        return
    assert isinstance(found, IncomingMessage)
    assert [a.key for a in found.attachments] == expected["downloadCodes"]
    assert found.kind == ("text" if expected["downloadCodes"] else "unsupported")
    assert content.said(body).text == ""


SYNC: dict[str, Callable[[Vector, Vector], None]] = {
    check.__name__: check
    for check in (
        robot_callback_sign,
        robot_callback_verify,
        card_callback_verify,
        event_decrypt,
        event_reply,
        custom_robot_sign,
        custom_robot_url,
        custom_robot_payload,
        session_webhook_payload,
        openapi_request,
        inbound_classify,
    )
}


@pytest.mark.parametrize("vector", of(SYNC))
def test_vector_is_met(vector: Vector) -> None:
    SYNC[vector["kind"]](vector["input"], vector["expected"])


# -- Stream ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def line(settings: Any) -> AsyncIterator[tuple[FakeGateway, Line, list[Inbound]]]:
    """A gateway of the vectors' app, the line to it, and what was delivered; a message that says fail is not taken."""
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    taken: list[Inbound] = []

    async def deliver(event: Inbound) -> None:
        if isinstance(event, IncomingMessage) and event.text.startswith("fail"):
            raise NotTaken("no room")
        taken.append(event)

    async with FakeGateway() as gateway:
        gateway.app_id, gateway.app_secret = APP, CREDENTIALS.app_secret
        app = Credentials("1", "dingtalk", APP, gateway.api_url, app_secret=CREDENTIALS.app_secret)
        with guarded_client() as http:
            running = asyncio.create_task(DingTalkStream(app, http).run(deliver, lambda *_, **__: None))
            await gateway.until(lambda: gateway.live)
            yield gateway, gateway.live[0], taken
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def _settled(gateway: FakeGateway, line: Line) -> None:
    """All frames before it were read when a ping is answered; the rest of their work takes a moment."""
    await gateway.acked(await gateway.push({"opaque": "last"}, "ping", "SYSTEM", line))
    await asyncio.sleep(0.05)


async def _send(line: Line, frame: str) -> None:
    with suppress(ValueError, AttributeError):
        line.frames.add(json.loads(frame)["headers"].get("messageId", ""))
    await line.send(frame)


async def stream_frame(given: Vector, expected: Vector, gateway: FakeGateway, line: Line, taken: list[Inbound]) -> None:
    await _send(line, given["frame"])
    if "then" in expected:  # a disconnect: no more may be asked of this line
        await gateway.until(lambda: len(gateway.lines) == 2)
        assert gateway.acks == {}
        return
    await _settled(gateway, line)
    frame = json.loads(given["frame"])
    ack = gateway.acks.get(frame["headers"]["messageId"])
    wanted = expected["ack"] or expected["ack_tolerated"]
    if wanted["code"] == 500:  # not taken: without an acknowledgement DingTalk sends it again
        assert (ack, taken) == (None, [])
        return
    assert ack is not None
    assert (ack["code"], ack["headers"]) == (wanted["code"], wanted["headers"])
    _check_data(frame["type"], json.loads(ack["data"]), expected)


def _check_data(kind: str, data: Any, expected: Vector) -> None:
    if kind == "SYSTEM":
        assert data == expected["ack"]["data_json"]
    elif kind == "EVENT":
        assert data["status"] == expected["preferred_data_json"]["status"]


async def stream_dedupe(
    given: Vector, expected: Vector, gateway: FakeGateway, line: Line, taken: list[Inbound]
) -> None:
    """Each is acknowledged; that the message is stored once is a constraint over its id (test_stream_cuts.py)."""
    for frame in given["frames"]:
        await _send(line, frame)
    await _settled(gateway, line)
    assert set(gateway.acks) >= set(expected["ack_message_ids"])
    assert len({event.message_id for event in taken if isinstance(event, IncomingMessage)}) == expected["handler_runs"]


async def stream_bad_frame(
    given: Vector, expected: Vector, gateway: FakeGateway, line: Line, taken: list[Inbound]
) -> None:
    for frame in given["frames"]:
        await _send(line, frame)
    await _settled(gateway, line)
    assert set(gateway.acks) >= set(expected["ack_message_ids"])
    assert gateway.lines == [line]


async def stream_open(given: Vector, expected: Vector, gateway: FakeGateway, line: Line, taken: list[Inbound]) -> None:
    """The gateway itself refuses a ticket that is escaped otherwise, and a call without ``Accept``."""
    [asked] = gateway.asked
    assert {**asked, "clientSecret": given["client_secret"]} == expected["body_without_ua_and_localIp"]
    assert given["response"]["ticket"] == expected["ws_url_query_decoded"]["ticket"]
    assert gateway.oddities == []


STREAM: dict[str, Callable[..., Any]] = {
    check.__name__: check for check in (stream_frame, stream_dedupe, stream_bad_frame, stream_open)
}


@pytest.mark.parametrize("vector", of(STREAM))
async def test_vector_of_the_stream_is_met(vector: Vector, line: tuple[FakeGateway, Line, list[Inbound]]) -> None:
    gateway, only, taken = line
    await STREAM[vector["kind"]](vector["input"], vector["expected"], gateway, only, taken)


def test_every_vector_is_run() -> None:
    assert {v["kind"] for v in VECTORS} == {*SYNC, *STREAM}
    assert len(VECTORS) == len(of(SYNC)) + len(of(STREAM)) == 48
