"""A reply in messages on its way: once, whole, in order, whoever carries it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from integrations.errors import OutcomeUnknown, PlatformError
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import Credentials, ReplyTarget
from tests.integrations.doubles import MemoryJournal

from .desk import LONG, Desk
from .fake_feishu import CUT_AFTER, CUT_BEFORE, RATE_LIMITED, SEND, SERVER_ERROR, Answer, FakeFeishu, refused


def test_answer_is_a_reply_to_the_message(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open()
    reply.show("partial")
    reply.finish("the answer")

    (message,) = feishu.messages
    assert (message.msg_type, message.text, message.reply_to) == ("text", "the answer", "om_question")
    assert desk.journal.states == {"part-1": "done"}


def test_opening_a_reply_makes_no_call(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open()
    desk.open(streaming=True)

    assert feishu.calls == []
    assert desk.journal.states == {}


def test_markdown_answer_is_rich_text(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open().finish("**bold** and ![chart](https://e.com/x.png)")

    (message,) = feishu.messages
    assert (message.msg_type, message.text) == ("post", "**bold** and chart (https://e.com/x.png)")


def test_long_answer_comes_whole_and_in_order(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open().finish(LONG)

    assert 3 < len(feishu.messages) < 10
    assert "\n".join(feishu.texts) == LONG
    assert {message.reply_to for message in feishu.messages} == {"om_question"}


@pytest.mark.parametrize("streaming", [False, True])
def test_blank_answer_is_not_sent(desk: Desk, feishu: FakeFeishu, streaming: bool) -> None:
    reply = desk.open(streaming=streaming)
    reply.show("  \n")
    reply.finish("  \n")

    assert feishu.calls == []


@pytest.mark.parametrize("streaming", [False, True])
def test_finishing_again_changes_nothing(desk: Desk, feishu: FakeFeishu, streaming: bool) -> None:
    desk.open(streaming=streaming).finish(LONG)
    calls = len(feishu.calls)

    desk.taken_over().open(streaming=streaming).finish(LONG)

    assert len(feishu.calls) == calls
    assert "\n".join(feishu.texts) == LONG


def test_rate_limit_is_waited_for(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, RATE_LIMITED, times=3)

    desk.open().finish("answer")

    assert feishu.texts == ["answer"]


def test_endless_rate_limit_is_left_to_the_caller(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, RATE_LIMITED, times=99)

    with pytest.raises(PlatformError) as raised:
        desk.open().finish("answer")

    assert (raised.value.permanent, raised.value.retry_after_s) == (False, 0.02)
    assert feishu.asked(SEND) == 4


def test_long_wait_is_left_to_the_caller(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, replace(RATE_LIMITED, headers=(("x-ogw-ratelimit-reset", "60"),)))

    with pytest.raises(PlatformError) as raised:
        desk.open().finish("answer")

    assert raised.value.retry_after_s == 60.0
    assert feishu.asked(SEND) == 1


@pytest.mark.parametrize("fault", [SERVER_ERROR, CUT_BEFORE, CUT_AFTER, Answer(502, "")], ids=str)
def test_interrupted_answer_is_shown_once_when_it_is_tried_again(desk: Desk, feishu: FakeFeishu, fault: Any) -> None:
    feishu.trouble("POST */reply", "none", times=1)  # the first part passes
    feishu.trouble("POST */reply", fault)
    with pytest.raises(PlatformError) as raised:
        desk.open().finish(LONG)
    assert not raised.value.permanent

    desk.taken_over().open().finish(LONG)

    assert "\n".join(feishu.texts) == LONG


def test_unknown_send_is_repeated_only_while_the_platform_remembers_its_uuid(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, CUT_AFTER)
    with pytest.raises(PlatformError):
        desk.open().finish("answer")

    desk.journal.age("part-1", 56 * 60)
    with pytest.raises(OutcomeUnknown):
        desk.taken_over().open().finish("answer")
    desk.journal.age("part-1", 54 * 60)
    desk.taken_over().open().finish("answer")

    assert feishu.texts == ["answer"]


def test_refused_send_may_be_repeated_after_any_time(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, SERVER_ERROR)
    with pytest.raises(PlatformError):
        desk.open().finish("answer")
    assert desk.journal.states == {"part-1": "refused"}

    desk.journal.age("part-1", 5 * 3600)
    desk.taken_over().open().finish("answer")

    assert feishu.texts == ["answer"]


def test_refusal_after_an_unknown_send_stays_unknown(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, CUT_AFTER)
    with pytest.raises(PlatformError):
        desk.open().finish("answer")

    feishu.gone.add("om_question")
    with pytest.raises(OutcomeUnknown):
        desk.taken_over().open().finish("answer")

    assert feishu.texts == ["answer"]


@pytest.mark.parametrize("code", [230011, 230019, 230050, 230071, 230072, 230110, 231003])
@pytest.mark.parametrize("streaming", [False, True])
def test_answer_goes_to_the_chat_when_the_message_cannot_be_replied_to(
    desk: Desk, feishu: FakeFeishu, code: int, streaming: bool
) -> None:
    feishu.trouble("POST */reply", refused(code), times=9)

    desk.open(streaming=streaming).finish(LONG)

    assert "\n".join(feishu.texts) == LONG
    assert {(m.reply_to, m.place) for m in feishu.messages} == {("", "oc_1")}
    assert feishu.asked("POST */reply") == 1


def test_send_into_the_chat_is_resumed_under_its_own_uuid(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.gone.add("om_question")
    feishu.trouble("POST */im/v1/messages", CUT_AFTER)
    with pytest.raises(PlatformError):
        desk.open().finish("answer")

    feishu.gone.clear()  # even if the message could be replied to again
    desk.taken_over().open().finish("answer")

    assert feishu.texts == ["answer"]
    assert desk.journal.states == {"part-1": "refused", "part-1-apart": "done"}


def test_permanent_refusal_is_not_retried(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, refused(230002), times=9)

    with pytest.raises(PlatformError, match="not in this chat") as raised:
        desk.open().finish("answer")

    assert raised.value.permanent
    assert feishu.asked(SEND) == 1


@pytest.mark.parametrize(("chat_id", "place"), [("oc_9", "oc_9"), ("", "ou_9")])
def test_push_reaches_a_chat_or_a_person(
    adapter: FeishuAdapter, app: Credentials, journal: MemoryJournal, feishu: FakeFeishu, chat_id: str, place: str
) -> None:
    target = ReplyTarget(chat_id=chat_id, chat_type="direct", message_id="om_ignored", sender_id="ou_9")
    feishu.trouble(SEND, CUT_AFTER)

    with pytest.raises(PlatformError):
        adapter.push(app, target, "news", journal)
    adapter.push(app, target, "news", journal)
    adapter.push(app, target, "news", journal)

    assert [(m.place, m.reply_to, m.text) for m in feishu.messages] == [(place, "", "news")]
    assert journal.states == {"part-1": "done"}
