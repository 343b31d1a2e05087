"""Buttons of a card: there while they make sense, and what a press comes back as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations.errors import PlatformError
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.events import parse
from integrations.values import NO_BUTTONS, Button, Buttons, CardAction, Toast

from .conftest import credentials
from .desk import BUTTONS, Desk, buttons_of, card
from .fake_feishu import CREATE_CARD, CUT_AFTER, RATE_LIMITED, SETTINGS, FakeFeishu, refused

ELEMENT = "* */elements/actions"


def test_growing_answer_can_be_stopped_and_a_complete_one_be_voted_on(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    assert buttons_of(card(feishu)) == ["stop:1"]
    reply.finish("one two")

    assert buttons_of(card(feishu)) == ["up:1", "down:1"]
    assert (card(feishu).text, card(feishu).is_streaming) == ("one two", False)


def test_short_answer_has_its_votes_from_the_start(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True, buttons=BUTTONS).finish("answer")

    assert buttons_of(card(feishu)) == ["up:1", "down:1"]
    assert feishu.asked(ELEMENT) == 0


@pytest.mark.parametrize(
    ("buttons", "growing", "complete"),
    [
        (NO_BUTTONS, [], []),
        (Buttons(stop=BUTTONS.stop), ["stop:1"], []),
        (Buttons(up=BUTTONS.up, down=BUTTONS.down), ["up:1", "down:1"], ["up:1", "down:1"]),
    ],
)
def test_only_the_buttons_that_are_wanted_are_shown(
    desk: Desk, feishu: FakeFeishu, buttons: Buttons, growing: list[str], complete: list[str]
) -> None:
    reply = desk.open(streaming=True, buttons=buttons)
    reply.show("one")
    assert buttons_of(card(feishu)) == growing
    reply.finish("one")

    assert buttons_of(card(feishu)) == complete


def test_later_holder_puts_the_votes_there(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True, buttons=BUTTONS).show("one")

    desk.taken_over().open(streaming=True, buttons=BUTTONS).finish("one two")

    assert buttons_of(card(feishu)) == ["up:1", "down:1"]


@pytest.mark.parametrize("fault", [refused(300313), refused(300317), CUT_AFTER], ids=str)
def test_answer_is_delivered_although_its_buttons_are_refused(desk: Desk, feishu: FakeFeishu, fault: Any) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    feishu.trouble(ELEMENT, fault)
    reply.finish("one two")

    assert (card(feishu).text, card(feishu).is_streaming) == ("one two", False)
    assert desk.journal.states["finished"] == "done"


def test_votes_wait_for_their_turn(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    feishu.trouble(ELEMENT, RATE_LIMITED)
    reply.finish("one two")

    assert buttons_of(card(feishu)) == ["up:1", "down:1"]


def test_card_is_made_without_buttons_where_its_form_is_refused(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(CREATE_CARD, refused(200861))
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    reply.finish("one two")

    assert (card(feishu).text, buttons_of(card(feishu))) == ("one two", [])
    assert feishu.asked(ELEMENT) == 0


def test_answer_that_nobody_finishes_does_not_go_on_growing(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    reply.close()

    assert (card(feishu).text, card(feishu).is_streaming) == ("one", False)
    assert buttons_of(card(feishu)) == ["up:1", "down:1"]


def test_closing_a_finished_answer_makes_no_call(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    reply.finish("one two")
    calls = list(feishu.calls)
    reply.close()

    assert feishu.calls == calls


def test_trouble_while_closing_is_kept_quiet_and_the_answer_may_still_come(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("one")
    feishu.trouble(SETTINGS, CUT_AFTER)
    reply.close()

    desk.taken_over().open(streaming=True, buttons=BUTTONS).finish("one two")

    assert (card(feishu).text, card(feishu).is_streaming) == ("one two", False)


@pytest.mark.parametrize(("text", "shown"), [("Sorry.", "Sorry."), ("", "one")])
def test_card_that_a_dead_worker_left_is_closed(desk: Desk, feishu: FakeFeishu, text: str, shown: str) -> None:
    desk.open(streaming=True, buttons=BUTTONS).show("one")

    desk.taken_over().open(streaming=True, buttons=BUTTONS).abandon(text)

    assert (card(feishu).text, card(feishu).is_streaming) == (shown, False)
    assert buttons_of(card(feishu)) == ["up:1", "down:1"]
    calls = len(feishu.calls)
    desk.taken_over().open(streaming=True, buttons=BUTTONS).abandon(text)
    assert len(feishu.calls) == calls


def test_card_is_closed_also_by_who_knows_neither_its_mode_nor_its_buttons(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True, buttons=BUTTONS).show("one")

    desk.taken_over().open(streaming=False).abandon("")

    assert (card(feishu).text, card(feishu).is_streaming, buttons_of(card(feishu))) == ("one", False, [])


def test_begun_card_is_finished_although_the_bot_is_set_to_messages_meanwhile(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True, buttons=BUTTONS).show("one")

    desk.taken_over().open(streaming=False).finish("one two")

    assert (feishu.texts, card(feishu).is_streaming) == (["one two"], False)


def test_nothing_is_shown_where_nothing_was_open(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True).abandon("Sorry.")
    feishu.trouble("POST */reply", refused(2200))
    with pytest.raises(PlatformError):
        desk.open(streaming=True).show("one")
    desk.taken_over().open(streaming=True).abandon("Sorry.")

    assert feishu.messages == []


def test_abandoned_card_that_is_gone_is_not_tried_again(desk: Desk, feishu: FakeFeishu) -> None:
    desk.open(streaming=True).show("one")
    feishu.trouble("* */cards/*", refused(200740), times=9)

    desk.taken_over().open(streaming=True).abandon("Sorry.")

    assert desk.journal.states["finished"] == "done"


def test_value_of_a_button_comes_back_as_it_was_given(desk: Desk, feishu: FakeFeishu) -> None:
    value = 'stop:"quoted"\n你好'
    desk.open(streaming=True, buttons=Buttons(stop=Button("Stop", value))).show("one")
    row = card(feishu).data["body"]["elements"][1]
    (behaviour,) = row["columns"][0]["elements"][0]["behaviors"]
    event = {
        "operator": {"open_id": "ou_1"},
        "token": "c-1",
        "action": {"tag": "button", "value": json.loads(json.dumps(behaviour["value"]))},
        "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"},
    }
    payload = {"schema": "2.0", "header": {"event_type": "card.action.trigger", "event_id": "e"}, "event": event}

    assert parse(payload, credentials()) == CardAction("ou_1", value, chat_id="oc_1")


@pytest.mark.parametrize(
    ("toast", "answer"),
    [
        (Toast("Stopped."), {"toast": {"type": "success", "content": "Stopped."}}),
        (Toast("好" * 300, "warning"), {"toast": {"type": "warning", "content": "好" * 200}}),
        (Toast("Thank you", "info", vote="up"), {"toast": {"type": "info", "content": "Thank you"}}),
        (Toast(""), {}),
    ],
)
def test_person_who_pressed_is_told_in_the_form_that_feishu_wants(
    adapter: FeishuAdapter, toast: Toast, answer: dict[str, Any]
) -> None:
    assert adapter.shown(CardAction("ou_1"), toast) == answer
