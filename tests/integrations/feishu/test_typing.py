"""The sign that the bot is at work, where no card shows it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from integrations.base import SIGN_STEPS
from integrations.errors import PlatformError
from integrations.feishu import calls
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import ReplyTarget
from tests.integrations.doubles import MemoryJournal

from .desk import Desk
from .fake_feishu import CREATE_CARD, CUT_AFTER, NO_CARD_SCOPE, SERVER_ERROR, FakeFeishu, refused

REACT, UNREACT = "POST */reactions", "DELETE */reactions/*"


def signs(feishu: FakeFeishu) -> list[tuple[str, str]]:
    return list(feishu.reactions.values())


def test_question_shows_that_the_bot_is_at_work_until_the_answer_is_there(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open()
    assert reply.shows_typing
    reply.begin()
    assert signs(feishu) == [("om_question", "Typing")]
    reply.finish("answer")
    reply.close()

    assert (signs(feishu), feishu.texts) == ([], ["answer"])


def test_later_holder_takes_the_sign_away(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open().begin()
    later = desk.taken_over().open()
    later.begin()
    assert signs(feishu) == [("om_question", "Typing")]
    later.finish("answer")
    later.close()

    assert signs(feishu) == []


def test_sign_of_unknown_fate_is_set_again_so_that_it_can_be_taken_away(desk: Desk, feishu: FakeFeishu) -> None:
    desk.journal.intend("typing")  # its worker died in the middle of the call
    later = desk.taken_over().open()
    later.begin()
    later.close()

    assert (feishu.asked(REACT), signs(feishu)) == (1, [])


def test_step_of_the_sign_is_known_as_one_that_shows_nothing_of_the_answer(desk: Desk) -> None:
    desk.open().begin()

    assert set(desk.journal.states) == SIGN_STEPS


def test_nothing_is_left_in_the_journal_that_looks_as_if_seen(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open()
    reply.begin()
    reply.close()

    assert desk.journal.states == {"typing": "refused"}


def test_closing_twice_makes_one_call(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open()
    reply.begin()
    reply.close()
    reply.close()

    assert feishu.asked(UNREACT) == 1


def test_reply_that_never_began_closes_without_a_call(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open()
    reply.finish("answer")
    reply.close()

    assert (feishu.asked(REACT), feishu.asked(UNREACT)) == (0, 0)


@pytest.mark.parametrize("fault", [refused(231002), refused(99991672), SERVER_ERROR], ids=str)
def test_sign_that_is_refused_costs_nothing_but_itself(desk: Desk, feishu: FakeFeishu, fault: Any) -> None:
    feishu.trouble(REACT, fault)
    reply = desk.open()
    with pytest.raises(PlatformError):
        reply.begin()
    reply.finish("answer")
    reply.close()

    assert (feishu.texts, feishu.asked(UNREACT)) == (["answer"], 0)


@pytest.mark.parametrize("fault", [refused(231007), SERVER_ERROR, CUT_AFTER], ids=str)
def test_sign_that_cannot_be_taken_away_raises_nothing(desk: Desk, feishu: FakeFeishu, fault: Any) -> None:
    reply = desk.open()
    reply.begin()
    feishu.trouble(UNREACT, fault)

    reply.close()


def test_answer_does_not_wait_long_for_a_sign_that_hangs(
    desk: Desk, feishu: FakeFeishu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "HURRIED", httpx.Timeout(0.05))
    feishu.reaction_takes_s = 1.5
    reply = desk.open()
    began_s = time.monotonic()
    with pytest.raises(PlatformError, match="did not answer"):
        reply.begin()

    assert time.monotonic() - began_s < 1.2
    reply.finish("answer")
    assert feishu.texts == ["answer"]


def test_card_needs_no_sign_until_cards_are_refused(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True)
    assert not reply.shows_typing
    reply.begin()
    assert feishu.calls == []
    feishu.trouble(CREATE_CARD, NO_CARD_SCOPE)
    reply.show("one")
    assert signs(feishu) == [("om_question", "Typing")]
    reply.finish("one two")
    reply.close()

    assert (signs(feishu), feishu.texts) == ([], ["one two"])


def test_reply_to_nobody_shows_no_sign(
    adapter: FeishuAdapter, desk: Desk, target: ReplyTarget, journal: MemoryJournal, feishu: FakeFeishu
) -> None:
    menu = replace(target, message_id="")  # a click on the menu has no message
    reply = adapter.open_reply(desk.app, menu, journal, streaming=False)
    reply.begin()

    assert not reply.shows_typing
    assert feishu.calls == []
