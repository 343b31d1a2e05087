"""A reply in a card that grows: once, in order, closed at its end, whoever carries it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations.errors import PlatformError
from integrations.feishu import cards

from .desk import Desk, card
from .fake_feishu import (
    CREATE_CARD,
    CUT_AFTER,
    CUT_BEFORE,
    RATE_LIMITED,
    SEND,
    SERVER_ERROR,
    SETTINGS,
    UPDATE,
    Answer,
    FakeFeishu,
    refused,
)


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
