"""A reply in a card that grows: once, in order, closed at its end, and in messages where the card fails."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from integrations.dingtalk import card_reply as reply_module
from integrations.errors import PlatformError
from integrations.values import ReplyTarget
from tests.integrations.doubles import MemoryJournal

from .conftest import LONG, Open
from .fake_dingtalk import CREATE, CUT_AFTER, CUT_BEFORE, OVER_QUOTA, QPS, SESSION, STREAM, FakeDingTalk

DENIED = (403, {"code": "Forbidden.AccessDenied.AccessTokenPermissionDenied", "message": "no"})
NO_VARIABLE = (500, {"code": "unknownError", "message": "unknown error"})


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pause between two updates of a card."""
    monkeypatch.setattr(reply_module, "MIN_PAUSE_S", 0.0)


def test_card_grows_and_is_finished_when_streaming(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal, at_once: None
) -> None:
    reply, text = open_reply(direct, streaming=True), " ".join(f"word{i}" for i in range(80))
    for end in range(0, len(text), 40):
        reply.show(text[:end])
    reply.finish(text + " END")
    (card,) = dingtalk.cards.values()
    assert len(card.texts) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(card.texts))
    assert (card.texts[-1], card.ends) == (text + " END", ["finished"])
    assert dingtalk.paths().count(CREATE) == 1
    assert dingtalk.paths()[0] == CREATE
    assert (dingtalk.oddities, dingtalk.seen) == ([], [])
    assert journal.states == {"card": "done", "finished": "done"}
    assert dict(dingtalk.calls)[CREATE]["outTrackId"] == journal.steps["card"].key


def test_updates_are_merged_when_they_come_too_fast_or_bring_little(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = open_reply(direct, streaming=True)
    reply.show("a" * 30)
    reply.show("a" * 300)
    assert dingtalk.count(STREAM) == 1
    monkeypatch.setattr(reply_module, "MIN_PAUSE_S", 0.0)
    reply.show("a" * 49)
    assert dingtalk.count(STREAM) == 1
    reply.show("a" * 50)
    assert dingtalk.count(STREAM) == 2


def test_nothing_is_created_when_there_is_no_text_yet(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    open_reply(direct, streaming=True).show(" \n")
    assert dingtalk.calls == []


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("fault", [CUT_BEFORE, CUT_AFTER, (504, "x")])
def test_card_is_not_doubled_when_its_creation_had_a_lost_answer(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, fault: Any, shown: bool
) -> None:
    dingtalk.fail(CREATE, fault)
    reply = open_reply(direct, streaming=True)
    if shown:
        reply.show("answ")
    reply.finish("answer")
    (card,) = dingtalk.cards.values()
    assert (card.texts[-1], card.ends) == ("answer", ["finished"])
    assert (dingtalk.oddities, dingtalk.seen) == ([], [])
    assert dingtalk.count(CREATE) == (1 if fault == CUT_AFTER else 2)


def test_finish_may_be_retried_when_the_cards_creation_is_lost_twice(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    dingtalk.fail(CREATE, CUT_BEFORE, CUT_BEFORE)
    with pytest.raises(PlatformError) as caught:
        open_reply(direct, streaming=True).finish("answer")
    assert not caught.value.permanent
    open_reply(direct, streaming=True).finish("answer")
    assert [card.ends for card in dingtalk.cards.values()] == [["finished"]]
    assert dingtalk.seen == []


def test_card_is_taken_over_when_its_holder_died(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, at_once: None
) -> None:
    open_reply(direct, streaming=True).show("the first half of")
    second = open_reply(direct, streaming=False)
    second.show("the first half of an answer and then some")
    second.finish("the whole answer")
    open_reply(direct, streaming=True).finish("the whole answer")
    (card,) = dingtalk.cards.values()
    assert (card.texts[-1], card.ends) == ("the whole answer", ["finished"])
    assert (dingtalk.count(CREATE), dingtalk.count(STREAM), dingtalk.oddities, dingtalk.seen) == (1, 3, [], [])


def test_card_is_taken_over_when_its_holder_died_before_the_answer_to_the_creation(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal
) -> None:
    journal.intend("card")
    open_reply(direct, streaming=True).finish("answer")
    (card,) = dingtalk.cards.values()
    assert (card.texts, card.ends) == (["answer"], ["finished"])
    assert dingtalk.paths() == [STREAM, CREATE, STREAM]


def test_last_text_is_shown_once_when_its_answer_was_lost(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    dingtalk.fail(STREAM, CUT_AFTER)
    with pytest.raises(PlatformError) as caught:
        open_reply(direct, streaming=True).finish("answer")
    assert not caught.value.permanent
    open_reply(direct, streaming=True).finish("answer")
    (card,) = dingtalk.cards.values()
    assert (card.texts, card.ends) == (["answer"], ["finished"])
    assert (dingtalk.count(STREAM), dingtalk.oddities) == (2, [])


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("fault", [DENIED, OVER_QUOTA, (400, {"code": "param.templateNotExist"})])
def test_answer_comes_as_message_when_cards_are_refused(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal, fault: Any, shown: bool
) -> None:
    dingtalk.fail(CREATE, fault)
    reply = open_reply(direct, streaming=True)
    if shown:
        reply.show("answ")
        reply.show("answer that has become longer")
    reply.finish("answer")
    open_reply(direct, streaming=True).finish("answer")
    assert dingtalk.seen == [("webhook", "answer")]
    assert dingtalk.paths() == [CREATE, SESSION]
    assert journal.states["card"] == "refused"
    assert "DingTalk refused" in journal.reasons["card"]


def test_card_is_tried_again_when_the_first_update_met_a_limit(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, at_once: None
) -> None:
    dingtalk.fail(CREATE, QPS)
    reply = open_reply(direct, streaming=True)
    with pytest.raises(PlatformError) as caught:
        reply.show("answ")
    assert not caught.value.permanent
    reply.show("answer")
    reply.finish("answer")
    assert [card.ends for card in dingtalk.cards.values()] == [["finished"]]
    assert dingtalk.paths() == [CREATE, CREATE, STREAM]  # the second ``show`` came too soon after the refusal


def test_answer_comes_as_message_when_the_card_meets_a_limit_at_the_end(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    dingtalk.fail(CREATE, QPS)
    open_reply(direct, streaming=True).finish("answer")
    assert dingtalk.seen == [("webhook", "answer")]


def test_update_is_repaired_by_the_next_when_one_met_a_limit(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, at_once: None
) -> None:
    dingtalk.fail(STREAM, QPS)
    reply = open_reply(direct, streaming=True)
    with pytest.raises(PlatformError):
        reply.show("answ")
    reply.finish("answer")
    assert [card.texts for card in dingtalk.cards.values()] == [["answer"]]


def test_card_is_closed_as_failed_when_its_last_text_is_refused_for_good(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, journal: MemoryJournal
) -> None:
    dingtalk.fail(STREAM, NO_VARIABLE)
    open_reply(direct, streaming=True).finish("answer")
    open_reply(direct, streaming=True).finish("answer")
    assert [card.ends for card in dingtalk.cards.values()] == [["failed"]]
    assert dingtalk.seen == [("webhook", "answer")]
    assert "content" in journal.reasons["finished"]


def test_broken_card_is_left_alone_when_an_update_was_refused_for_good(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, at_once: None
) -> None:
    dingtalk.fail(STREAM, NO_VARIABLE)
    reply = open_reply(direct, streaming=True)
    with pytest.raises(PlatformError):
        reply.show("answ")
    reply.show("answer " * 10)
    assert dingtalk.count(STREAM) == 1


def test_rest_follows_as_messages_when_the_answer_is_longer_than_a_card(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget, at_once: None
) -> None:
    reply = open_reply(direct, streaming=True)
    reply.show(LONG[:500])
    reply.show(LONG)
    reply.finish(LONG)
    open_reply(direct, streaming=True).finish(LONG)
    (card,) = dingtalk.cards.values()
    assert len(card.texts) == 2
    assert "\n\n".join([card.texts[-1], *(text for _, text in dingtalk.seen)]) == LONG
    assert card.ends == ["finished"]


def test_card_is_closed_as_failed_when_the_answer_stays_empty(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    open_reply(direct, streaming=True).show("answ")
    open_reply(direct, streaming=True).finish(" ")
    assert [card.ends for card in dingtalk.cards.values()] == [["failed"]]


def test_card_goes_to_the_group_when_asked_there(open_reply: Open, dingtalk: FakeDingTalk, group: ReplyTarget) -> None:
    open_reply(group, streaming=True).finish("answer @all <a atId='all'>x</a>")
    assert dict(dingtalk.calls)[CREATE]["openSpaceId"] == "dtv1.card//IM_GROUP.cidGroup=="
    (card,) = dingtalk.cards.values()
    assert card.texts == ["answer @\u200ball <\u200ba at\u200bId='all'>x<\u200b/a>"]


def test_answer_comes_as_message_when_the_card_reaches_no_chat(
    open_reply: Open, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    dingtalk.staff = ()
    open_reply(direct, streaming=True).finish("answer")
    assert dingtalk.seen == [("webhook", "answer")]
