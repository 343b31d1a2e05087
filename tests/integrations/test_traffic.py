"""Paced, billed and stopped calls, as the platforms and the people in the chats notice them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from integrations import pacing
from integrations.base import Adapter
from integrations.breaker import THRESHOLD
from integrations.dingtalk import card_reply as dingtalk_reply
from integrations.dingtalk import limits as dingtalk_limits
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.errors import PlatformError
from integrations.feishu import limits as feishu_limits
from integrations.feishu.adapter import FeishuAdapter
from integrations.metering import Quota, Unmetered, streaming_pause_s
from integrations.pacing import Limit
from integrations.traffic import HeldBack, Stopped
from integrations.values import Credentials, ReplyTarget

from .dingtalk import fake_dingtalk as ding
from .dingtalk.doubles import MemoryJournal as DingTalkJournal
from .dingtalk.fake_dingtalk import FakeDingTalk
from .feishu import fake_feishu as fei
from .feishu.doubles import MemoryJournal, MemoryTokens
from .feishu.fake_feishu import FakeFeishu

ONE_A_MINUTE = Limit(burst=1, interval_s=60.0)
QPS = (403, {"code": "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", "message": "qps"})
OVER_QUOTA = (403, {"code": "Forbidden.AccessDenied.ApiCountLimitForOrg", "message": "no"})


class MemoryMeter(Unmetered):
    def __init__(self, share: float = 0.0) -> None:
        self.counted: Counter[Quota] = Counter()
        self.used_up: set[Quota] = set()
        self.given = share

    def count(self, credential_id: str, quota: Quota) -> None:
        self.counted[quota] += 1

    def share(self, credential_id: str, quota: Quota) -> float:
        return self.given

    def use_up(self, credential_id: str, quota: Quota) -> None:
        self.used_up.add(quota)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def feishu() -> Iterator[FakeFeishu]:
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def dingtalk() -> Iterator[FakeDingTalk]:
    with FakeDingTalk() as fake:
        yield fake


@pytest.fixture
def meter() -> MemoryMeter:
    return MemoryMeter()


@pytest.fixture
def in_feishu(http: httpx.Client, meter: MemoryMeter) -> FeishuAdapter:
    return FeishuAdapter(http, MemoryTokens(), meter)


@pytest.fixture
def in_dingtalk(http: httpx.Client, meter: MemoryMeter) -> DingTalkAdapter:
    return DingTalkAdapter(http, MemoryTokens(), meter)


@pytest.fixture
def app(feishu: FakeFeishu) -> Credentials:
    return Credentials(
        id="1", platform="feishu", app_id=feishu.app_id, app_secret=feishu.app_secret, api_url=feishu.url
    )


@pytest.fixture
def robot(dingtalk: FakeDingTalk) -> Credentials:
    return Credentials(
        id="2",
        platform="dingtalk",
        app_id=dingtalk.app_id,
        app_secret=dingtalk.app_secret,
        api_url=dingtalk.api_url,
        oapi_url=dingtalk.oapi_url,
        card_template_id="tmpl-0001.schema",
    )


CHAT = ReplyTarget(chat_id="oc_1", chat_type="group", message_id="om_question", sender_id="ou_1")


def group(dingtalk: FakeDingTalk, **values: Any) -> ReplyTarget:
    target = ReplyTarget(
        chat_id="cidGroup==",
        chat_type="group",
        message_id="m1",
        sender_id="staff0001",
        webhook_url=dingtalk.webhook,
        webhook_expires_at_s=time.time() + 5400,
    )
    return replace(target, **values)


def answer(adapter: Adapter, app: Credentials, target: ReplyTarget, text: str = "answer") -> Any:
    journal = DingTalkJournal() if app.platform == "dingtalk" else MemoryJournal(f"reply-{time.monotonic_ns()}")
    adapter.open_reply(app, target, journal, streaming=False).finish(text)
    return journal


# -- pace -----------------------------------------------------------------------------------------------------------


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
    journal = DingTalkJournal()

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
    reply = in_dingtalk.open_reply(robot, group(dingtalk), DingTalkJournal(), streaming=True)
    for end in range(30, 300, 30):
        reply.show("x" * end)
    reply.finish("x" * 300)

    (card,) = dingtalk.cards.values()
    assert (card.texts, card.ends) == (["x" * 30, "x" * 300], ["finished"])


def test_no_card_is_made_when_there_is_no_room_for_one_at_the_end(
    in_dingtalk: DingTalkAdapter, robot: Credentials, dingtalk: FakeDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dingtalk_limits, "API", ONE_A_MINUTE)
    in_dingtalk.open_reply(robot, group(dingtalk), DingTalkJournal("r1"), streaming=True).show("first")
    journal = DingTalkJournal("r2")
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


# -- broken apps ----------------------------------------------------------------------------------------------------


def fail_often(adapter: Adapter, app: Credentials, target: ReplyTarget, times: int = THRESHOLD) -> None:
    for _ in range(times):
        with pytest.raises(PlatformError):
            answer(adapter, app, target)


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
    in_dingtalk.open_reply(broken, group(dingtalk), DingTalkJournal(), streaming=True).finish("answer")

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


# -- quotas ---------------------------------------------------------------------------------------------------------


def test_each_answered_call_is_billed_once_and_tokens_are_not(
    in_dingtalk: DingTalkAdapter,
    robot: Credentials,
    dingtalk: FakeDingTalk,
    meter: MemoryMeter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dingtalk_reply, "MIN_PAUSE_S", 0.0)
    reply = in_dingtalk.open_reply(robot, group(dingtalk), DingTalkJournal(), streaming=True)
    reply.show("a" * 30)
    reply.show("a" * 60)
    reply.finish("a" * 90)
    answer(in_dingtalk, robot, group(dingtalk))
    answer(in_dingtalk, robot, group(dingtalk, webhook_url=""))

    assert meter.counted == {"api": 5, "webhook": 1}  # a card and its three texts, a message by the API, one by session


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (QPS, 0),
        (ding.CUT_AFTER, 1),
        ((400, {"code": "contain.notAllowed.word"}), 1),
        (OVER_QUOTA, 0),
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
    [(ding.TO_GROUP, OVER_QUOTA, "api"), (ding.SESSION, (200, {"errcode": 90030}), "webhook")],
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
    reply = in_dingtalk.open_reply(robot, group(dingtalk), DingTalkJournal(), streaming=True)
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
        journal = DingTalkJournal() if place is robot else MemoryJournal()
        reply = adapter.open_reply(place, target, journal, streaming=True)
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
        journal = DingTalkJournal() if place is robot else MemoryJournal()
        adapter.open_reply(place, target, journal, streaming=True).show("half an ans")
        meter.given = 1.0
        later = adapter.open_reply(place, target, journal, streaming=True)
        later.show("half an answer and more")
        later.finish("answer")

    assert [card.texts for card in dingtalk.cards.values()] == [["half an ans", "answer"]]
    assert [card.texts for card in feishu.cards.values()] == [["half an ans", "answer"]]
    assert dingtalk.seen == []
