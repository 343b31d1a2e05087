"""A reply in plain messages: once, whole, in order, by whichever way is open."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from integrations.dingtalk.card_reply import CardReply
from integrations.dingtalk.reply import PlainReply
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.values import ReplyTarget
from tests.integrations.doubles import MemoryJournal

from .conftest import LONG, Open
from .fake_dingtalk import CUT_AFTER, CUT_BEFORE, QPS, SESSION, TO_GROUP, TO_USER, FakeDingTalk


def test_nothing_is_called_when_a_reply_is_opened_and_shown(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    reply = open_reply(direct)
    reply.show("half an ans")
    assert isinstance(reply, PlainReply)
    assert isinstance(open_reply(direct, streaming=True), CardReply)
    assert dingtalk.calls == []


def test_answer_goes_by_the_webhook_when_it_lives(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal
) -> None:
    open_reply(direct).finish("**answer**")
    assert dingtalk.seen == [("webhook", "**answer**")]
    assert dingtalk.calls == [
        (SESSION, {"msgtype": "markdown", "markdown": {"title": "answer", "text": "**answer**"}}),
    ]
    assert journal.states == {"part-1": "done"}


def test_asker_is_mentioned_when_the_answer_goes_to_a_group(
    open_reply: Open, dingtalk: FakeDingTalk, group: ReplyTarget
) -> None:
    open_reply(group).finish("answer @all")
    assert dingtalk.calls == [
        (
            SESSION,
            {
                "msgtype": "text",
                "text": {"content": "@staff0001\n\nanswer @\u200ball"},
                "at": {"atUserIds": ["staff0001"]},
            },
        )
    ]


@pytest.mark.parametrize("left_s", [-1, 299])
def test_answer_goes_by_the_api_when_the_webhook_ends_soon(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, left_s: float
) -> None:
    open_reply(replace(direct, webhook_expires_at_s=time.time() + left_s)).finish("answer")
    assert dingtalk.seen == [("user", "answer")]
    assert dingtalk.count(SESSION) == 0


def test_answer_goes_to_the_group_by_the_api_when_there_is_no_webhook(
    open_reply: Open, dingtalk: FakeDingTalk, group: ReplyTarget
) -> None:
    open_reply(replace(group, webhook_url="")).finish("answer")
    assert dingtalk.seen == [("group", "answer")]


def test_answer_never_goes_to_a_foreign_host_when_the_target_names_one(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    open_reply(replace(direct, webhook_url=f"{dingtalk.foreign_url}{SESSION}?session=s1")).finish("answer")
    assert dingtalk.seen == [("user", "answer")]
    assert dingtalk.paths() == [TO_USER]


REFUSALS = [
    (200, {"errcode": 300001, "errmsg": "session 不存在"}),
    (200, {"errcode": -1}),
    (500, "x"),
    (503, {}),
    (302, ""),
]


@pytest.mark.parametrize("fault", REFUSALS)
def test_answer_falls_to_the_api_when_the_webhook_is_refused(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal, fault: Any
) -> None:
    dingtalk.fail(SESSION, fault)
    open_reply(direct).finish(LONG)
    assert [via for via, _ in dingtalk.seen] == ["user"] * 3
    assert dingtalk.count(SESSION) == 1
    assert journal.states == {"part-1": "refused", "part-1-api": "done", "part-2-api": "done", "part-3-api": "done"}


@pytest.mark.parametrize("fault", [CUT_BEFORE, CUT_AFTER, (502, "x"), (504, "x")])
def test_nothing_is_sent_again_when_the_outcome_is_unknown(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal, fault: Any
) -> None:
    dingtalk.fail(SESSION, fault)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            open_reply(direct).finish(LONG)
    assert dingtalk.paths() == [SESSION]
    assert journal.states == {"part-1": "intended"}


def test_nothing_is_sent_again_when_the_apis_outcome_is_unknown(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    late = replace(direct, webhook_expires_at_s=0.0)
    dingtalk.fail(TO_USER, CUT_AFTER)
    for target in (late, late, direct):
        with pytest.raises(OutcomeUnknown):
            open_reply(target).finish("answer")
    assert dingtalk.seen == [("user", "answer")]
    assert dingtalk.paths() == [TO_USER]


def test_nothing_is_sent_when_another_holder_began_the_same_part_meanwhile(
    open_reply: Open,
    dingtalk: FakeDingTalk,
    direct: ReplyTarget,
    journal: MemoryJournal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal.intend("part-1")
    monkeypatch.setattr(journal, "find", lambda name: None)
    with pytest.raises(OutcomeUnknown):
        open_reply(direct).finish("answer")
    assert dingtalk.calls == []


def test_only_missing_parts_are_sent_when_finished_again(
    open_reply: Open, dingtalk: FakeDingTalk, group: ReplyTarget, journal: MemoryJournal
) -> None:
    plain = replace(group, webhook_url="")
    dingtalk.fail(TO_GROUP, (200, {"processQueryKey": "k0"}), QPS)
    with pytest.raises(PlatformError) as caught:
        open_reply(plain).finish(LONG)
    assert not caught.value.permanent
    assert journal.states == {"part-1-api": "done", "part-2-api": "refused"}
    open_reply(plain).finish(LONG)
    open_reply(plain).finish(LONG)
    assert journal.states == {"part-1-api": "done", "part-2-api": "done", "part-3-api": "done"}
    assert dingtalk.count(TO_GROUP) == 4
    assert [text.split()[1] for _, text in dingtalk.seen] == ["11", "22"]


def test_parts_keep_their_order_when_the_answer_is_long(
    open_reply: Open, dingtalk: FakeDingTalk, group: ReplyTarget
) -> None:
    open_reply(group).finish(LONG)
    texts = [text for _, text in dingtalk.seen]
    assert "\n\n".join(texts) == f"@staff0001\n\n{LONG}"
    assert [call["at"] for _, call in dingtalk.calls if "at" in call] == [{"atUserIds": ["staff0001"]}]


def test_person_without_staff_id_is_answered_when_the_webhook_lives(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    stranger = replace(direct, sender_id="")
    open_reply(stranger, streaming=True).finish("answer")
    assert dingtalk.seen == [("webhook", "answer")]


def test_person_without_staff_id_is_lost_when_the_webhook_is_dead(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    dingtalk.sessions.clear()
    with pytest.raises(PlatformError) as caught:
        open_reply(replace(direct, sender_id="")).finish("answer")
    assert caught.value.permanent
    assert "staff id" in str(caught.value)
    assert dingtalk.paths() == [SESSION]
