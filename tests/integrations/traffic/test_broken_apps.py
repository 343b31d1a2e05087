"""Calls of an app that does not work are stopped, and those of others are not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from integrations import pacing
from integrations.breaker import THRESHOLD
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.feishu import limits as feishu_limits
from integrations.feishu.adapter import FeishuAdapter
from integrations.pacing import Limit
from integrations.traffic import HeldBack, Stopped
from integrations.values import Credentials
from tests.integrations.dingtalk import fake_dingtalk as ding
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.doubles import MemoryJournal
from tests.integrations.feishu import fake_feishu as fei
from tests.integrations.feishu.fake_feishu import FakeFeishu

from .answers import CHAT, ONE_A_MINUTE, answer, fail_often, group


def test_a_broken_app_is_left_alone_and_the_others_work(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu
) -> None:
    broken = replace(app, id="3", app_id="cli_broken")
    fail_often(in_feishu, broken, CHAT)
    calls, journal = len(feishu.calls), MemoryJournal()

    with pytest.raises(Stopped) as raised:
        in_feishu.open_reply(broken, CHAT, journal, streaming=False).finish("answer")

    assert "app secret invalid" in str(raised.value)
    assert (len(feishu.calls), journal.steps, raised.value.permanent) == (calls, {}, False)
    answer(in_feishu, app, CHAT, "from the other app")
    assert feishu.texts == ["from the other app"]


def test_an_app_works_again_after_its_pause_when_it_was_repaired(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.breaker.FIRST_PAUSE_S", 0.05)
    secret, feishu.app_secret = feishu.app_secret, "another"
    fail_often(in_feishu, app, CHAT)
    feishu.app_secret = secret
    time.sleep(0.06)
    for text in ("probe", "and on"):
        answer(in_feishu, app, CHAT, text)

    assert feishu.texts == ["probe", "and on"]


def test_a_probe_that_found_no_room_is_given_to_the_next_call(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.breaker.FIRST_PAUSE_S", 0.05)
    secret, feishu.app_secret = feishu.app_secret, "another"
    fail_often(in_feishu, app, CHAT)
    feishu.app_secret = secret
    time.sleep(0.06)
    with monkeypatch.context() as full:
        full.setattr(feishu_limits, "CHAT", ONE_A_MINUTE)
        pacing.buckets().hold(feishu_limits.call(app, "reply", chat_id="oc_full").buckets[1], 60.0)
        with pytest.raises(HeldBack, match="too many calls"):
            answer(in_feishu, app, replace(CHAT, chat_id="oc_full"))
    answer(in_feishu, app, CHAT, "the probe")

    assert feishu.texts == ["the probe"]


@pytest.mark.parametrize("code", [230002, 230013, 230018, 230053, 232009])
def test_a_refusal_of_one_chat_never_stops_the_app(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feishu_limits, "CHAT", Limit(burst=1_000, interval_s=0.001))
    feishu.trouble(fei.SEND, fei.refused(code), times=THRESHOLD + 1)
    fail_often(in_feishu, app, CHAT, THRESHOLD + 1)
    answer(in_feishu, app, CHAT, "fine")

    assert feishu.texts == ["fine"]


def test_answers_go_by_the_chats_address_when_dingtalks_api_does_not_work(
    in_dingtalk: DingTalkAdapter, robot: Credentials, dingtalk: FakeDingTalk
) -> None:
    broken = replace(robot, app_secret="wrong")
    fail_often(in_dingtalk, broken, group(dingtalk, webhook_url=""))
    calls = len(dingtalk.calls)
    in_dingtalk.open_reply(broken, group(dingtalk), MemoryJournal(), streaming=True).finish("answer")

    assert [kind for kind, _ in dingtalk.seen] == ["webhook"]
    assert dingtalk.paths()[-1] == ding.SESSION
    assert len(dingtalk.calls) == calls + 1


def test_answers_go_by_the_api_when_the_chats_address_is_not_reached(
    in_dingtalk: DingTalkAdapter, robot: Credentials, dingtalk: FakeDingTalk
) -> None:
    astray = replace(robot, oapi_url="http://127.0.0.1:9")
    target = group(dingtalk, webhook_url="http://127.0.0.1:9/robot/sendBySession?session=s1")
    for _ in range(THRESHOLD + 1):
        journal = answer(in_dingtalk, astray, target)

    assert [kind for kind, _ in dingtalk.seen] == ["group"] * (THRESHOLD + 1)
    assert journal.states == {"part-1-api": "done"}  # the address was not even tried
