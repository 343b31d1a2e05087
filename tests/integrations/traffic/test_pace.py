"""Paced calls, as the platforms and the people in the chats notice them."""

from __future__ import annotations

import time
from dataclasses import replace

import httpx
import pytest

from integrations import pacing
from integrations.dingtalk import card_reply as dingtalk_reply
from integrations.dingtalk import limits as dingtalk_limits
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.errors import PlatformError
from integrations.feishu import limits as feishu_limits
from integrations.feishu.adapter import FeishuAdapter
from integrations.pacing import Limit
from integrations.traffic import HeldBack
from integrations.values import Credentials
from tests.integrations.dingtalk import fake_dingtalk as ding
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.doubles import MemoryJournal, MemoryTokens
from tests.integrations.feishu import fake_feishu as fei
from tests.integrations.feishu.fake_feishu import FakeFeishu

from .answers import CHAT, ONE_A_MINUTE, answer, group


def test_a_full_chat_leaves_no_intent_and_the_answer_is_sent_later(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feishu_limits, "CHAT", ONE_A_MINUTE)
    answer(in_feishu, app, CHAT, "first")
    journal = MemoryJournal()

    with pytest.raises(HeldBack) as raised:
        in_feishu.open_reply(app, CHAT, journal, streaming=False).finish("second")

    assert journal.steps == {}
    assert (raised.value.permanent, round(raised.value.retry_after_s or 0, -1)) == (False, 60)
    assert feishu.texts == ["first"]
    pacing.buckets.cache_clear()  # a minute later
    in_feishu.open_reply(app, CHAT, journal, streaming=False).finish("second")
    assert feishu.texts == ["first", "second"]


@pytest.mark.parametrize("session", ["s1", ""])
def test_a_full_chat_of_dingtalk_leaves_no_intent(
    in_dingtalk: DingTalkAdapter,
    robot: Credentials,
    dingtalk: FakeDingTalk,
    monkeypatch: pytest.MonkeyPatch,
    session: str,
) -> None:
    monkeypatch.setattr(dingtalk_limits, "CHAT", ONE_A_MINUTE)
    monkeypatch.setattr(dingtalk_limits, "API", ONE_A_MINUTE)
    target = group(dingtalk) if session else group(dingtalk, webhook_url="")
    answer(in_dingtalk, robot, target, "first")
    journal = MemoryJournal()

    with pytest.raises(HeldBack):
        in_dingtalk.open_reply(robot, target, journal, streaming=False).finish("second")

    assert journal.steps == {}
    assert len(dingtalk.seen) == 1


def test_other_chats_are_answered_while_one_is_full(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feishu_limits, "CHAT", ONE_A_MINUTE)
    for chat in ("oc_1", "oc_2", "oc_3"):
        answer(in_feishu, app, replace(CHAT, chat_id=chat), chat)

    assert feishu.texts == ["oc_1", "oc_2", "oc_3"]


def test_a_short_wait_is_slept_through(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feishu_limits, "CHAT", Limit(burst=1, interval_s=0.2))
    started = time.monotonic()
    for text in ("1", "2", "3"):
        answer(in_feishu, app, CHAT, text)

    assert feishu.texts == ["1", "2", "3"]
    assert time.monotonic() - started >= 0.4


def test_steps_without_room_are_merged_into_the_next_and_the_last_text_is_shown(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feishu_limits, "CARD", Limit(burst=1, interval_s=0.3))
    reply = in_feishu.open_reply(app, CHAT, MemoryJournal(), streaming=True)
    started = time.monotonic()
    for end in range(1, 40):
        reply.show("x" * end)
    shown_s = time.monotonic() - started
    reply.finish("x" * 40)

    (card,) = feishu.cards.values()
    assert card.texts == ["x", "xx", "x" * 40]
    assert shown_s < 0.3, "showing never waits"
    assert not card.is_streaming


def test_steps_of_a_dingtalk_card_without_room_are_merged_too(
    in_dingtalk: DingTalkAdapter, robot: Credentials, dingtalk: FakeDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dingtalk_reply, "MIN_PAUSE_S", 0.0)
    monkeypatch.setattr(dingtalk_limits, "CARD", Limit(burst=1, interval_s=0.5))
    reply = in_dingtalk.open_reply(robot, group(dingtalk), MemoryJournal(), streaming=True)
    for end in range(30, 300, 30):
        reply.show("x" * end)
    reply.finish("x" * 300)

    (card,) = dingtalk.cards.values()
    assert (card.texts, card.ends) == (["x" * 30, "x" * 300], ["finished"])


def test_no_card_is_made_when_there_is_no_room_for_one_at_the_end(
    in_dingtalk: DingTalkAdapter, robot: Credentials, dingtalk: FakeDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dingtalk_limits, "API", ONE_A_MINUTE)
    in_dingtalk.open_reply(robot, group(dingtalk), MemoryJournal("r1"), streaming=True).show("first")
    journal = MemoryJournal("r2")
    in_dingtalk.open_reply(robot, group(dingtalk), journal, streaming=True).finish("second")

    assert [(kind, text.split()[-1]) for kind, text in dingtalk.seen] == [("webhook", "second")]
    assert journal.states == {"card": "refused", "part-1": "done"}


def test_all_workers_hold_back_when_feishu_says_so(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu, http: httpx.Client
) -> None:
    feishu.trouble(fei.SEND, fei.Answer(429, {"code": 99991400}, (("x-ogw-ratelimit-reset", "30"),)))
    with pytest.raises(PlatformError):
        answer(in_feishu, app, CHAT)
    asked = feishu.asked(fei.SEND)

    with pytest.raises(HeldBack) as raised:
        answer(FeishuAdapter(http, MemoryTokens()), app, replace(CHAT, chat_id="oc_2"))

    assert 25 < (raised.value.retry_after_s or 0) <= 30
    assert feishu.asked(fei.SEND) == asked


def test_only_the_full_chat_is_left_alone_when_feishu_says_so(
    in_feishu: FeishuAdapter, app: Credentials, feishu: FakeFeishu
) -> None:
    feishu.trouble(fei.SEND, fei.Answer(400, {"code": 230020}, (("retry-after", "30"),)))
    with pytest.raises(PlatformError):
        answer(in_feishu, app, CHAT)
    with pytest.raises(HeldBack):
        answer(in_feishu, app, CHAT)
    answer(in_feishu, app, replace(CHAT, chat_id="oc_2"), "elsewhere")

    assert feishu.texts == ["elsewhere"]


def test_all_calls_stop_when_dingtalk_blocks_the_address(
    in_dingtalk: DingTalkAdapter, robot: Credentials, dingtalk: FakeDingTalk
) -> None:
    dingtalk.fail(ding.TO_GROUP, (200, {"status": 1111, "wait": 5, "punish": "deny"}))
    with pytest.raises(PlatformError):
        answer(in_dingtalk, robot, group(dingtalk, webhook_url=""))
    calls = len(dingtalk.calls)

    with pytest.raises(HeldBack) as raised:
        answer(in_dingtalk, replace(robot, app_id="another"), group(dingtalk))

    assert 290 < (raised.value.retry_after_s or 0) <= 300
    assert len(dingtalk.calls) == calls
