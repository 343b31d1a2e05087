"""Custom group robots: their address, their signature, and what DingTalk answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from integrations import pacing
from integrations.dingtalk import cards, robot
from integrations.dingtalk.cards import Message
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.robots import RobotAddress
from integrations.traffic import HeldBack

from .conftest import vector, vectors
from .fake_dingtalk import CUT_AFTER, CUT_BEFORE, ROBOT, FakeDingTalk

TOKEN = "exampletoken0123456789"
BASES = ("https://oapi.dingtalk.com", "https://oapi.dingtalk.io")
GOOD = f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_WAIT_S", 0.0)


@pytest.fixture
def mine(dingtalk: FakeDingTalk) -> RobotAddress:
    dingtalk.robots[TOKEN] = "SECsecret"
    return RobotAddress("1", f"{dingtalk.oapi_url}{ROBOT}?access_token={TOKEN}", "SECsecret")


# -- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (GOOD, GOOD),
        (f"  {GOOD}&timestamp=1&sign=x \n", GOOD),
        (TOKEN, GOOD),
        (GOOD.replace(".com", ".io"), GOOD.replace(".com", ".io")),
        (GOOD.replace("/send?", "/send/?"), GOOD),
    ],
)
def test_address_is_kept_without_what_changes_with_each_call(given: str, kept: str) -> None:
    assert robot.address(given, BASES) == kept


@pytest.mark.parametrize(
    "given",
    [
        vector("B04")["input"]["webhook"],
        "https://oapi.dingtalk.com/robot/send?access_token=",
        "https://oapi.dingtalk.com/robot/send?access_token=a b",
        f"{GOOD}&access_token={TOKEN}2",
        GOOD.replace("https", "http"),
        GOOD.replace("oapi.dingtalk.com", "oapi.dingtalk.com.thief.example"),
        GOOD.replace("oapi.", "thief@oapi."),
        GOOD.replace("robot/send", "robot/sendBySession"),
        "https://[oapi.dingtalk.com/robot/send?access_token=x",
        "hello",
        "",
    ],
)
def test_address_is_refused_in_words_when_no_message_could_go_there(given: str) -> None:
    with pytest.raises(ValueError, match=r"webhook address"):
        robot.address(given, BASES)


@pytest.mark.parametrize("vector", vectors("custom_robot_sign"))
def test_address_is_signed_as_the_sdk_signs_it(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    own = RobotAddress("1", robot.address(given["access_token"], BASES), given["secret"])

    url = robot.signed(own, given["timestamp_ms"])

    assert url == expected["url"]
    assert parse_qs(urlsplit(url).query)["sign"] == [expected["sign_base64"]]
    assert url.endswith(f"sign={expected['sign_urlencoded']}")


def test_address_is_as_it_is_without_a_secret() -> None:
    assert robot.signed(RobotAddress("1", GOOD), 1) == GOOD


def test_nothing_of_a_robot_shows_when_it_is_printed() -> None:
    assert TOKEN not in repr(RobotAddress("1", GOOD, "SECsecret"))
    assert "SECsecret" not in repr(RobotAddress("1", GOOD, "SECsecret"))


# -- sending --------------------------------------------------------------------------------------------------------


def test_message_is_in_the_group_with_its_title(mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client) -> None:
    robot.send(mine, "Disk full", "**95 %** on db1", http)

    assert dingtalk.seen == [("robot", "#### Disk full\n\n**95 %** on db1")]
    body = dingtalk.calls[-1][1]
    assert (body["msgtype"], body["markdown"]["title"]) == ("markdown", "Disk full 95 % on db1")


def test_message_without_a_title_is_as_it_is(mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client) -> None:
    robot.send(mine, "", "磁盘 95%", http)
    assert dingtalk.seen == [("robot", "磁盘 95%")]
    assert "at" not in dingtalk.calls[-1][1]


@pytest.mark.parametrize("forged", ["@all", "@所有人", "@everyone", '<a atId="all">all</a>'])
def test_nobody_is_rung_at_whatever_the_text_says(
    mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client, forged: str
) -> None:
    robot.send(mine, f"Hi {forged}", f"Hello {forged} bye", http)
    body = dingtalk.calls[-1][1]
    assert "at" not in body
    assert forged not in body["markdown"]["text"]
    assert forged not in body["markdown"]["title"]


def test_robot_body_has_the_sdks_shape() -> None:
    """Without its mentions: ours has none. Of action cards there are none either."""
    text = {k: v for k, v in vector("B10")["expected"]["body"].items() if k != "at"}
    markdown = {k: v for k, v in vector("B11")["expected"]["body"].items() if k != "at"}
    assert cards.webhook_message(Message(text["text"]["content"])) == text
    part = markdown["markdown"]
    assert cards.webhook_message(Message(part["text"], part["title"])) == markdown


def test_long_message_comes_in_three_parts_at_most(
    mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client
) -> None:
    robot.send(mine, "", "\n\n".join(f"第{i}段 " + "字" * 200 for i in range(200)), http)
    assert len(dingtalk.seen) == 3
    assert dingtalk.seen[-1][1].endswith("left out）")


@pytest.mark.parametrize("text", ["", "  \n "])
def test_empty_message_is_refused(mine: RobotAddress, http: httpx.Client, text: str) -> None:
    with pytest.raises(PlatformError) as caught:
        robot.send(mine, "", text, http)
    assert caught.value.permanent


@pytest.mark.parametrize("cut", [CUT_BEFORE, CUT_AFTER, (504, {})])
def test_message_is_there_once_when_the_first_answer_was_lost(
    mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client, cut: Any
) -> None:
    dingtalk.fail(ROBOT, cut)
    robot.send(mine, "", "news", http)
    assert dingtalk.seen == [("robot", "news")]
    assert dingtalk.count(ROBOT) == 2


def test_nobody_knows_when_every_answer_was_lost(
    mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client
) -> None:
    dingtalk.fail(ROBOT, CUT_AFTER, CUT_AFTER)
    with pytest.raises(OutcomeUnknown):
        robot.send(mine, "", "news", http)
    assert dingtalk.seen == [("robot", "news")]


@pytest.mark.parametrize(
    ("errcode", "errmsg", "words"),
    [
        (310000, "keywords not in content, more: [...]", "keywords"),
        (310000, "关键词不匹配", "keywords"),
        (310000, "invalid timestamp", "clock"),
        (310000, "sign not match", "signing secret"),
        (310000, "ip 203.0.113.9 not in whitelist", "address"),
        (310000, "something new", "security settings"),
        (400013, "群已解散", "group is gone"),
        (400101, "access_token 不存在", "webhook address"),
        (300001, "token is not exist", "webhook address"),
        (400102, "机器人已停用", "switched off"),
        (400106, "机器人不在群里", "not in the group"),
        (430102, "bad", "content filter"),
        (460101, "long", "too long"),
    ],
)
def test_refusal_is_told_in_words_and_not_repeated(
    mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client, errcode: int, errmsg: str, words: str
) -> None:
    dingtalk.fail(ROBOT, (200, {"errcode": errcode, "errmsg": errmsg}))
    with pytest.raises(PlatformError, match=words) as caught:
        robot.send(mine, "", "news", http)
    assert caught.value.permanent
    assert str(errcode) in str(caught.value)
    assert dingtalk.count(ROBOT) == 1


def test_twenty_a_minute_are_never_exceeded(mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client) -> None:
    for _ in range(robot.PACE.burst):
        robot.send(mine, "", "news", http)
    with pytest.raises(HeldBack) as caught:
        robot.send(mine, "", "news", http)
    assert 0 < (caught.value.retry_after_s or 0) <= robot.PACE.interval_s
    assert not caught.value.permanent
    assert robot.PACE.burst + 60 / robot.PACE.interval_s == 20
    other = RobotAddress("2", mine.url, mine.secret)
    robot.send(other, "", "news", http)


def test_throttled_robot_rests_for_ten_minutes(mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client) -> None:
    dingtalk.fail(ROBOT, (200, {"errcode": 410100, "errmsg": "发送速度太快而限流"}))
    with pytest.raises(PlatformError) as refused:
        robot.send(mine, "", "news", http)
    with pytest.raises(HeldBack) as held:
        robot.send(mine, "", "news", http)
    assert (refused.value.permanent, refused.value.retry_after_s) == (False, 600.0)
    assert 590 < (held.value.retry_after_s or 0) <= 600
    assert dingtalk.count(ROBOT) == 1


def test_secrets_are_in_no_error(mine: RobotAddress, dingtalk: FakeDingTalk, http: httpx.Client) -> None:
    dingtalk.fail(ROBOT, (500, "<html>"), (200, {"errcode": 310000, "errmsg": f"sign {TOKEN} SECsecret"}))
    for _ in range(2):
        with pytest.raises(PlatformError) as caught:
            robot.send(mine, "", "news", http)
        assert TOKEN not in str(caught.value)
        assert "SECsecret" not in str(caught.value)
