"""A reply on its way: once, whole, in order, whoever carries it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from integrations.errors import OutcomeUnknown, PlatformError
from integrations.feishu import cards
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.refusals import FeishuError
from integrations.values import Credentials, ReplyTarget

from .desk import Desk, card
from .doubles import MemoryJournal
from .fake_feishu import (
    CREATE_CARD,
    CUT_AFTER,
    CUT_BEFORE,
    NO_CARD_SCOPE,
    RATE_LIMITED,
    SEND,
    SERVER_ERROR,
    SETTINGS,
    UPDATE,
    Answer,
    FakeFeishu,
    refused,
)

LONG = "BEGIN\n" + "\n".join(f"第{i}行：这是一个很长的回答，用来检查分段。" for i in range(700)) + "\nTHE-END"


# -- messages -------------------------------------------------------------------------------------------------------


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


# -- cards ----------------------------------------------------------------------------------------------------------


def test_card_grows_and_is_closed(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    for text in ("one", "one two", "one two", "one two three"):
        reply.show(text)
    assert card(feishu).is_streaming
    reply.finish("one two three END")

    assert card(feishu).texts == ["one", "one two", "one two three", "one two three END"]
    assert card(feishu).sequences == [10_001, 10_002, 10_003, 10_004]
    assert not card(feishu).is_streaming
    assert card(feishu).data["config"]["summary"] == {"content": "one two three END"}
    assert [(m.msg_type, m.reply_to) for m in feishu.messages] == [("interactive", "om_question")]
    assert set(desk.journal.states) == {"card", "card-sent", "card-closed", "finished"}


def test_short_answer_is_a_finished_card_from_the_start(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True).finish("answer")

    assert (card(feishu).text, card(feishu).is_streaming, card(feishu).sequences) == ("answer", False, [])
    assert card(feishu).data["config"]["summary"] == {"content": "answer"}
    assert len(feishu.messages) == 1


def test_card_is_closed_without_an_update_when_all_is_shown(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    reply.show("answer")
    reply.finish("answer")

    assert (feishu.asked(UPDATE), feishu.asked(SETTINGS)) == (0, 1)
    assert not card(feishu).is_streaming


def test_later_holder_goes_on_with_the_same_card(desk: Desk, feishu: FakeFeishu) -> None:
    first = desk.open(streaming=True)
    first.show("one")
    first.show("one two")

    second = desk.taken_over().open(streaming=True)
    second.show("uno")
    with pytest.raises(PlatformError) as raised:
        first.show("one two three")  # a late holder must not overwrite the new one
    second.finish("uno due")

    assert not raised.value.permanent
    assert card(feishu).texts == ["one", "one two", "uno", "uno due"]
    assert card(feishu).sequences == [10_001, 20_001, 20_002, 20_003]
    assert len(feishu.messages) == 1


def test_later_holder_may_only_finish(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True).show("one")

    desk.taken_over().open(streaming=True).finish("one two")

    assert (card(feishu).text, card(feishu).is_streaming) == ("one two", False)
    assert len(feishu.messages) == 1


@pytest.mark.parametrize("call", [CREATE_CARD, SEND, UPDATE, SETTINGS])
@pytest.mark.parametrize("fault", [CUT_BEFORE, CUT_AFTER, SERVER_ERROR, Answer(504, "")], ids=str)
def test_card_is_finished_once_when_any_call_fails(desk: Desk, feishu: FakeFeishu, call: str, fault: Any) -> None:
    reply = desk.open(streaming=True)
    if call in (CREATE_CARD, SEND):
        feishu.trouble(call, fault)
        with pytest.raises(PlatformError):
            reply.show("one")
    else:
        reply.show("one")
        feishu.trouble(call, fault)
        with pytest.raises(PlatformError):
            reply.finish("one two END")

    desk.taken_over().open(streaming=True).finish("one two END")

    (message,) = feishu.messages
    sent = feishu.cards[message.content["data"]["card_id"]]
    assert (sent.text, sent.is_streaming) == ("one two END", False)


def test_lost_step_is_repaired_by_the_next_one(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    feishu.trouble(UPDATE, CUT_AFTER)
    reply.show("one")
    with pytest.raises(PlatformError):
        reply.show("one two")

    reply.show("one two three")
    reply.finish("one two three")

    assert card(feishu).text == "one two three"


def test_rate_limit_in_a_stream_is_reported_and_waited_for_at_the_end(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    reply.show("one")
    feishu.trouble(UPDATE, RATE_LIMITED, times=3)
    with pytest.raises(PlatformError) as raised:
        reply.show("one two")
    reply.finish("one two three")

    assert raised.value.retry_after_s == 0.02
    assert card(feishu).texts == ["one", "one two three"]


def test_used_sequence_is_jumped_over(desk: Desk, feishu: FakeFeishu) -> None:
    first = desk.open(streaming=True)
    for text in ("1", "1 2", "1 2 3"):
        first.show(text)

    again = desk.open(streaming=True)  # the same holder, once more
    again.show("1 2 3 4")
    again.finish("1 2 3 4 5")

    assert card(feishu).sequences == [10_001, 10_002, 11_002, 11_003, 11_004]
    assert card(feishu).text == "1 2 3 4 5"


def test_streaming_mode_is_switched_on_again_when_it_ended(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    reply.show("one")
    card(feishu).data["config"]["streaming_mode"] = False
    reply.show("one two")
    assert card(feishu).is_streaming
    feishu.trouble(UPDATE, refused(200850))
    reply.finish("one two three")

    assert (card(feishu).text, card(feishu).is_streaming) == ("one two three", False)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (CREATE_CARD, NO_CARD_SCOPE),
        (CREATE_CARD, refused(300305)),
        (CREATE_CARD, Answer(404, "no such page")),
        (SEND, refused(230099, "ErrCode: 200570")),
        (SEND, refused(200860)),
        (SEND, refused(230025)),
    ],
    ids=str,
)
def test_answer_comes_as_text_when_cards_are_refused(desk: Desk, feishu: FakeFeishu, call: str, fault: Answer) -> None:
    feishu.trouble(call, fault)
    reply = desk.open(streaming=True)
    reply.show("one")
    reply.show("one two")
    assert desk.journal.states["card"] == "refused"

    created = feishu.asked(CREATE_CARD)
    desk.taken_over().open(streaming=True).finish("one two three")

    assert [(m.msg_type, m.text) for m in feishu.messages] == [("text", "one two three")]
    assert feishu.asked(CREATE_CARD) == created == 1


def test_temporary_trouble_is_no_refusal_of_cards(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(CREATE_CARD, SERVER_ERROR)
    reply = desk.open(streaming=True)
    with pytest.raises(FeishuError):
        reply.show("one")
    reply.show("one two")

    assert card(feishu).text == "one two"


def test_very_long_answer_fills_the_card_and_goes_on_in_messages(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    for end in range(3000, len(LONG), 3000):
        reply.show(LONG[:end])
    reply.finish(LONG)

    assert [m.msg_type for m in feishu.messages] == ["interactive", *["post"] * (len(feishu.messages) - 1)]
    assert "\n".join(feishu.texts) == LONG
    assert not card(feishu).is_streaming
    assert [name for name in desk.journal.states if name.startswith("part")] == ["part-2", "part-3", "part-4"]


def test_rest_of_a_very_long_answer_is_sent_once_when_it_is_interrupted(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    reply.show("BEGIN")
    feishu.trouble(SEND, CUT_AFTER)
    with pytest.raises(PlatformError):
        reply.finish(LONG)
    updates = feishu.asked(UPDATE)

    desk.taken_over().open(streaming=True).finish(LONG)

    assert "\n".join(feishu.texts) == LONG
    assert feishu.asked(UPDATE) == updates, "a closed card is left alone"


def test_answer_is_not_lost_when_a_visible_card_refuses_it(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    reply.show("one")
    feishu.trouble(UPDATE, refused(300313))
    reply.finish("one two")

    assert feishu.texts == ["one", "one two"]
    assert not card(feishu).is_streaming


def test_card_that_cannot_be_closed_is_left_to_end_by_itself(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    reply.show("one")
    feishu.trouble(SETTINGS, refused(200740))
    reply.finish("one two")

    assert card(feishu).text == "one two"
    assert desk.journal.states["finished"] == "done"


def test_card_of_unknown_fate_is_not_followed_by_text(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, CUT_AFTER)
    with pytest.raises(PlatformError):
        desk.open(streaming=True).show("one")
    feishu.trouble(SEND, refused(230099))

    with pytest.raises(OutcomeUnknown):
        desk.taken_over().open(streaming=True).finish("one two")

    assert len(feishu.messages) == 1


def test_a_stream_cut_anywhere_never_embeds_or_mentions(desk: Desk, feishu: FakeFeishu) -> None:
    text = 'Hi <at user_id="all">x</at> ![p](https://e.com/p.png) `<at id=all>` [l](https://e.com)\n\n|a|b|\n|--|--|\n|1|2|'
    reply = desk.open(streaming=True)
    for end in range(1, len(text), 2):
        reply.show(text[:end])  # the fake refuses pictures and fails on mentions
    reply.finish(text)

    assert card(feishu).text.startswith('Hi ＜at user_id="all">x＜/at> p (https://e.com/p.png) `＜at id=all>`')


def test_card_request_is_what_the_platform_documents() -> None:
    assert json.loads(cards.card("hi", streaming=True)) == {
        "schema": "2.0",
        "config": {
            "update_multi": True,
            "streaming_mode": True,
            "streaming_config": {
                "print_frequency_ms": {"default": 30},
                "print_step": {"default": 2},
                "print_strategy": "fast",
            },
        },
        "body": {"elements": [{"tag": "markdown", "element_id": "answer", "content": "hi"}]},
    }
    assert json.loads(cards.closing_settings("# **T**\n> x")) == {
        "config": {"streaming_mode": False, "summary": {"content": "T x"}}
    }
    assert json.loads(cards.card_part("c1").content) == {"type": "card", "data": {"card_id": "c1"}}
