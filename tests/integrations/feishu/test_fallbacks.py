"""A person always gets the text: what happens when Feishu does not take a message as it is."""

from __future__ import annotations

import pytest

from integrations.errors import OutcomeUnknown
from integrations.feishu import outbox
from integrations.feishu.refusals import FeishuError

from .desk import BUTTONS, Desk, card
from .fake_feishu import CREATE_CARD, CUT_AFTER, SEND, SETTINGS, UPDATE, Answer, FakeFeishu, refused

RICH = "**bold** and `code`"
FORM = [
    refused(230001, "ext=invalid post"),
    refused(230025),
    refused(230054),
    refused(230055),
    refused(230099, "ErrCode: 11310"),
    refused(9499),
    refused(232999, "a code of tomorrow"),
]
NOBODY = [230002, 230006, 230013, 230018, 230027, 230034, 230035, 230053, 232009, 99991401, 99991672, 99991673]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BUSY_S", 0.01)


@pytest.mark.parametrize("fault", FORM, ids=lambda fault: str(fault.body["code"]))
def test_rich_text_that_is_refused_comes_as_plain_text(desk: Desk, feishu: FakeFeishu, fault: Answer) -> None:
    feishu.trouble(SEND, fault)
    desk.open().finish(RICH)

    (message,) = feishu.messages
    assert (message.msg_type, message.text, message.reply_to) == ("text", RICH, "om_question")
    assert desk.journal.states == {"part-1": "refused", "part-1-plain": "done"}


def test_plain_text_is_gone_on_with_under_its_own_uuid(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, refused(230001))
    feishu.trouble(SEND, CUT_AFTER)
    with pytest.raises(FeishuError):
        desk.open().finish(RICH)

    desk.taken_over().open().finish(RICH)

    assert feishu.texts == [RICH]


def test_plain_text_can_neither_mention_nor_embed(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, refused(230099))
    desk.open().finish('**x** <at user_id="all">all</at> ![p](https://e.com/p.png)')  # the fake fails on mentions

    assert feishu.texts == ['**x** ＜at user_id="all">all＜/at> p (https://e.com/p.png)']


@pytest.mark.parametrize("code", NOBODY)
def test_no_other_form_is_tried_where_none_would_pass(desk: Desk, feishu: FakeFeishu, code: int) -> None:
    feishu.trouble(SEND, refused(code))

    with pytest.raises(FeishuError) as error:
        desk.open().finish(RICH)

    assert (error.value.code, error.value.permanent) == (code, True)
    assert feishu.asked(SEND) == 1


def test_plain_text_that_is_refused_is_told_to_the_admin(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, refused(230001))

    with pytest.raises(FeishuError, match="230001"):
        desk.open().finish("plain")

    assert feishu.messages == []


def test_send_of_unknown_outcome_is_not_followed_by_plain_text(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, CUT_AFTER)
    with pytest.raises(FeishuError):
        desk.open().finish(RICH)
    feishu.trouble(SEND, refused(230001))

    with pytest.raises(OutcomeUnknown):
        desk.taken_over().open().finish(RICH)

    assert feishu.texts == [RICH]


@pytest.mark.parametrize("code", [230022, 230028])
@pytest.mark.parametrize("text", [RICH, "plain"])
def test_person_is_told_when_a_check_refuses_the_answer(desk: Desk, feishu: FakeFeishu, code: int, text: str) -> None:
    feishu.trouble(SEND, refused(code))

    with pytest.raises(FeishuError, match="refused the text") as error:
        desk.open().finish(text)

    assert feishu.texts == ["The answer cannot be shown here: a check of Feishu or of your company refused it."]
    assert error.value.permanent


def test_notice_that_cannot_be_sent_hides_nothing(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, refused(230022), times=2)

    with pytest.raises(FeishuError, match="content check"):
        desk.open().finish(RICH)


@pytest.mark.parametrize("code", [200220, 200570, 200860, 230099, 300305, 300313, 99991672])
def test_refused_card_and_refused_rich_text_leave_the_plain_text(desk: Desk, feishu: FakeFeishu, code: int) -> None:
    feishu.trouble(CREATE_CARD, refused(code), times=2)
    feishu.trouble("POST */reply", refused(230001))
    reply = desk.open(streaming=True, buttons=BUTTONS)
    reply.show("**bold**")
    reply.finish(RICH)

    assert [(m.msg_type, m.text) for m in feishu.messages] == [("text", RICH)]


@pytest.mark.parametrize("code", [200810, 230049])
def test_what_passes_in_a_second_is_waited_for(desk: Desk, feishu: FakeFeishu, code: int) -> None:
    reply = desk.open(streaming=True)
    reply.show("one")
    feishu.trouble(UPDATE, refused(code))
    feishu.trouble(SETTINGS, refused(code))
    reply.finish("one two")

    assert (card(feishu).text, card(feishu).is_streaming) == ("one two", False)


def test_message_that_is_still_being_sent_is_repeated_under_its_uuid(desk: Desk, feishu: FakeFeishu) -> None:
    feishu.trouble(SEND, refused(230049), times=2)
    desk.open().finish("answer")

    assert feishu.texts == ["answer"]
