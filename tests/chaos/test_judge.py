"""The judge on histories made by hand: each fault is found, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.judge import Asked, Shown, judge


def asked(number: int, **values: object) -> Asked:
    tag = f"c1m{number}"
    made = Asked(tag, "c1", "feishu-text", f"echo: {tag}", 10.0 * number, 10.0 * number + 1)
    return replace(made, **values)


def answer(number: int, at_s: float | None = None, **values: object) -> Shown:
    at_s = 10.0 * number + 2 if at_s is None else at_s
    return replace(Shown("c1", f"echo: c1m{number}", at_s, at_s), **values)


DELIVERED = {"c1m1": "delivered", "c1m2": "delivered"}


def test_one_answer_each_in_order_is_clean() -> None:
    verdict = judge([asked(1), asked(2)], [answer(1), answer(2)], DELIVERED, set())

    assert (verdict.faults, verdict.asked, verdict.answered) == ({}, 2, 2)


def test_an_accepted_message_without_an_answer_is_lost() -> None:
    verdict = judge([asked(1), asked(2)], [answer(1)], DELIVERED, set())

    assert verdict.faults == {"lost": ["c1m2"]}


def test_an_answer_in_another_chat_is_lost_and_stray() -> None:
    verdict = judge([asked(1)], [answer(1, chat="c2")], DELIVERED, set())

    assert verdict.faults == {"lost": ["c1m1"], "strays": ["c2: 'echo: c1m1'"]}


def test_a_card_that_stays_open_or_half_written_is_lost() -> None:
    shown = [answer(1, done_s=None), answer(2, text="echo: c1m2 and mo")]

    verdict = judge([asked(1), asked(2)], shown, DELIVERED, set())

    assert verdict.faults == {"lost": ["c1m1", "c1m2"], "disordered": ["c1m2"]}


def test_an_apology_is_a_stray_and_no_answer() -> None:
    verdict = judge([asked(1)], [answer(1, text="Sorry, too late")], DELIVERED, set())

    assert verdict.faults == {"lost": ["c1m1"], "strays": ["c1: 'Sorry, too late'"]}


def test_two_visible_answers_are_doubled_even_if_one_is_only_begun() -> None:
    verdict = judge([asked(1)], [answer(1), answer(1, 15, text="echo: c1m1 …", done_s=None)], DELIVERED, set())

    assert verdict.faults == {"doubled": ["c1m1"]}


def test_an_answer_that_appears_before_the_former_is_complete_is_out_of_order() -> None:
    swapped = judge([asked(1), asked(2)], [answer(1, 40), answer(2, 30)], DELIVERED, set())
    overlapping = judge([asked(1), asked(2)], [answer(1, 30, done_s=35.0), answer(2, 32)], DELIVERED, set())

    assert (swapped.faults, overlapping.faults) == ({"disordered": ["c1m2"]}, {"disordered": ["c1m2"]})


def test_messages_sent_at_the_same_time_have_no_order() -> None:
    verdict = judge([asked(1, accepted_s=25.0), asked(2)], [answer(1, 40), answer(2, 30)], DELIVERED, set())

    assert verdict.faults == {}


def test_a_missing_answer_between_two_does_not_hide_their_disorder() -> None:
    messages = [asked(1), asked(2), asked(3)]

    verdict = judge(messages, [answer(1, 60), answer(3, 50)], {}, set())

    assert verdict.faults == {"lost": ["c1m2"], "disordered": ["c1m3"]}


def test_unconfirmed_is_allowed_only_for_an_interrupted_send_without_an_id() -> None:
    unsure = {"c1m1": "unconfirmed"}
    plain = asked(1, kind="dingtalk-plain")

    interrupted = judge([plain], [], unsure, {"c1m1"})
    not_interrupted = judge([plain], [answer(1)], unsure, set())
    with_an_id = judge([asked(1, kind="dingtalk-card")], [answer(1)], unsure, {"c1m1"})

    assert (interrupted.faults, interrupted.unconfirmed) == ({}, ["c1m1"])
    assert not_interrupted.faults == with_an_id.faults == {"unexplained": ["c1m1"]}


def test_a_message_that_never_got_its_200_is_refused_and_not_lost() -> None:
    verdict = judge([asked(1, accepted_s=None)], [], {}, set())

    assert verdict.faults == {"refused": ["c1m1"]}


def test_an_answer_of_a_message_with_a_longer_number_is_another_one() -> None:
    verdict = judge([asked(1), asked(11)], [answer(1), answer(11)], {}, set())

    assert verdict.faults == {}
