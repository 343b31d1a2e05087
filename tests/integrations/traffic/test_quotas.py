"""Billed calls, and what is saved when a month's quota runs short."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from integrations.dingtalk import card_reply as dingtalk_reply
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.errors import PlatformError
from integrations.feishu.adapter import FeishuAdapter
from integrations.metering import Quota, streaming_pause_s
from integrations.values import Credentials
from tests.integrations.dingtalk import fake_dingtalk as ding
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.doubles import MemoryJournal
from tests.integrations.feishu.fake_feishu import FakeFeishu

from .answers import CHAT, MemoryMeter, answer, fail_often, group


def test_each_answered_call_is_billed_once_and_tokens_are_not(
    in_dingtalk: DingTalkAdapter,
    robot: Credentials,
    dingtalk: FakeDingTalk,
    meter: MemoryMeter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dingtalk_reply, "MIN_PAUSE_S", 0.0)
    reply = in_dingtalk.open_reply(robot, group(dingtalk), MemoryJournal(), streaming=True)
    reply.show("a" * 30)
    reply.show("a" * 60)
    reply.finish("a" * 90)
    answer(in_dingtalk, robot, group(dingtalk))
    answer(in_dingtalk, robot, group(dingtalk, webhook_url=""))

    assert meter.counted == {"api": 5, "webhook": 1}  # a card and its three texts, a message by the API, one by session


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (ding.QPS, 0),
        (ding.CUT_AFTER, 1),
        ((400, {"code": "contain.notAllowed.word"}), 1),
        (ding.OVER_QUOTA, 0),
    ],
)
def test_a_failed_call_is_billed_unless_its_pace_or_the_network_was_the_reason(
    in_dingtalk: DingTalkAdapter,
    robot: Credentials,
    dingtalk: FakeDingTalk,
    meter: MemoryMeter,
    fault: Any,
    billed: int,
) -> None:
    dingtalk.fail(ding.TO_GROUP, fault)
    fail_often(in_dingtalk, robot, group(dingtalk, webhook_url=""), 1)

    assert meter.counted["api"] == billed


def test_an_unreached_host_is_not_billed(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, meter: MemoryMeter
) -> None:
    fail_often(in_feishu, replace(app, api_url="http://127.0.0.1:9"), CHAT, 1)
    answer(in_feishu, app, CHAT)

    assert meter.counted == {"api": 1}


@pytest.mark.parametrize(
    ("path", "fault", "quota"),
    [(ding.TO_GROUP, ding.OVER_QUOTA, "api"), (ding.SESSION, (200, {"errcode": 90030}), "webhook")],
)
def test_the_month_is_used_up_when_dingtalk_says_so(
    in_dingtalk: DingTalkAdapter,
    robot: Credentials,
    dingtalk: FakeDingTalk,
    meter: MemoryMeter,
    path: str,
    fault: Any,
    quota: Quota,
) -> None:
    dingtalk.fail(path, fault)
    target = group(dingtalk) if quota == "webhook" else group(dingtalk, webhook_url="")
    if quota == "webhook":
        answer(in_dingtalk, robot, target)  # the API takes over
    else:
        with pytest.raises(PlatformError, match="raise the plan in DingTalk's admin console"):
            answer(in_dingtalk, robot, target)

    assert meter.used_up == {quota}


@pytest.mark.parametrize(("share", "pause_s"), [(0.79, 0.0), (0.8, 5.0), (0.949, 5.0), (0.95, math.inf)])
def test_streaming_is_reduced_step_by_step(share: float, pause_s: float) -> None:
    assert streaming_pause_s(share) == pause_s


def test_answers_grow_in_few_steps_when_the_quota_is_short(
    in_dingtalk: DingTalkAdapter,
    robot: Credentials,
    dingtalk: FakeDingTalk,
    meter: MemoryMeter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dingtalk_reply, "MIN_PAUSE_S", 0.0)
    meter.given = 0.8
    reply = in_dingtalk.open_reply(robot, group(dingtalk), MemoryJournal(), streaming=True)
    for end in range(30, 120, 30):
        reply.show("x" * end)
    reply.finish("x" * 120)

    (card,) = dingtalk.cards.values()
    assert (card.texts, card.ends) == (["x" * 30, "x" * 120], ["finished"])


def test_feishus_answers_grow_in_few_steps_when_the_quota_is_short(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, meter: MemoryMeter
) -> None:
    meter.given = 0.8
    reply = in_feishu.open_reply(app, CHAT, MemoryJournal(), streaming=True)
    for text in ("1", "1 2", "1 2 3"):
        reply.show(text)
    reply.finish("1 2 3 4")

    (card,) = feishu.cards.values()
    assert card.texts == ["1", "1 2 3 4"]


def test_answers_come_at_once_when_the_quota_is_nearly_used_up(
    in_dingtalk: DingTalkAdapter,
    in_feishu: FeishuAdapter,
    robot: Credentials,
    app: Credentials,
    dingtalk: FakeDingTalk,
    feishu: FakeFeishu,
    meter: MemoryMeter,
) -> None:
    meter.given = 0.95
    for adapter, place, target in ((in_dingtalk, robot, group(dingtalk)), (in_feishu, app, CHAT)):
        reply = adapter.open_reply(place, target, MemoryJournal(), streaming=True)
        reply.show("half an ans")
        reply.finish("answer")

    assert (dingtalk.cards, feishu.cards) == ({}, {})
    assert (len(dingtalk.seen), feishu.texts) == (1, ["answer"])


def test_a_card_that_was_begun_is_finished_when_the_quota_ran_short_meanwhile(
    in_dingtalk: DingTalkAdapter,
    in_feishu: FeishuAdapter,
    robot: Credentials,
    app: Credentials,
    dingtalk: FakeDingTalk,
    feishu: FakeFeishu,
    meter: MemoryMeter,
) -> None:
    for adapter, place, target in ((in_dingtalk, robot, group(dingtalk)), (in_feishu, app, CHAT)):
        meter.given = 0.0
        journal = MemoryJournal()
        adapter.open_reply(place, target, journal, streaming=True).show("half an ans")
        meter.given = 1.0
        later = adapter.open_reply(place, target, journal, streaming=True)
        later.show("half an answer and more")
        later.finish("answer")

    assert [card.texts for card in dingtalk.cards.values()] == [["half an ans", "answer"]]
    assert [card.texts for card in feishu.cards.values()] == [["half an ans", "answer"]]
    assert dingtalk.seen == []
