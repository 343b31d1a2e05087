"""An answer that its card does not take, or not whole: it goes on in messages, and nothing is shown twice."""

from __future__ import annotations

import pytest

from integrations.errors import OutcomeUnknown, PlatformError
from integrations.feishu.refusals import FeishuError

from .desk import LONG, Desk, card
from .fake_feishu import (
    CREATE_CARD,
    CUT_AFTER,
    NO_CARD_SCOPE,
    SEND,
    SERVER_ERROR,
    SETTINGS,
    UPDATE,
    Answer,
    FakeFeishu,
    refused,
)


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
