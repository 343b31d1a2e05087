"""Events in several frames: joined in the right order, forgotten in time, never too many."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import PayloadError
from integrations.feishu import parts
from integrations.feishu.frames import DATA, Frame, decode
from integrations.feishu.parts import Parts

from .conftest import vectors


def part(seq: int | str, count: int | str, payload: bytes | None, name: str = "m1") -> Frame:
    return Frame(1, 2, 3, DATA, (("message_id", name), ("sum", str(count)), ("seq", str(seq))), payload=payload)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=2, max_size=12), st.data())
def test_parts_are_joined_whatever_their_order(pieces: list[bytes], data: st.DataObject) -> None:
    frames = data.draw(st.permutations([part(seq, len(pieces), piece) for seq, piece in enumerate(pieces)]))
    waiting = Parts()

    *early, last = [waiting.add(frame, 0.0) for frame in frames]

    assert (set(early), last) == ({None}, b"".join(pieces))


def test_recorded_second_part_completes_the_event() -> None:
    (vector,) = [v.values[0] for v in vectors("ws_frame") if v.id == "ws-05b-split-second"]
    (whole,) = [v.values[0] for v in vectors("ws_frame") if v.id == "ws-04-event"]
    second, event = (decode(bytes.fromhex(v["input"]["frame_hex"])) for v in (vector, whole))
    assert event.payload is not None
    assert second.payload is not None
    first = part(0, 2, event.payload[: -len(second.payload)], second.header("message_id"))
    waiting = Parts()

    assert [waiting.add(first, 0.0), waiting.add(second, 0.0)] == [None, event.payload]


def test_event_in_one_frame_needs_no_numbers() -> None:
    assert Parts().add(Frame(1, 2, 3, DATA, payload=b"{}"), 0.0) == b"{}"
    assert Parts().add(part(0, 1, None), 0.0) == b""


def test_repeated_part_counts_once() -> None:
    waiting = Parts()

    assert [waiting.add(part(seq, 2, b"x"), 0.0) for seq in (0, 0, 1)] == [None, None, b"xx"]


def test_events_do_not_mix() -> None:
    waiting = Parts()
    joined = [waiting.add(part(seq, 2, name.encode(), name), 0.0) for seq in (0, 1) for name in ("a", "b")]

    assert joined == [None, None, b"aa", b"bb"]


@pytest.mark.parametrize(("age_s", "joined"), [(parts.LIFE_S, b"xy"), (parts.LIFE_S + 0.1, None)])
def test_unfinished_event_is_forgotten_after_ten_seconds(age_s: float, joined: bytes | None) -> None:
    waiting = Parts()
    waiting.add(part(0, 2, b"x"), 100.0)

    assert waiting.add(part(1, 2, b"y"), 100.0 + age_s) == joined


@pytest.mark.parametrize(
    ("seq", "count"),
    [(2, 2), (0, 0), (0, parts.MAX_PARTS + 1), ("-1", 2), ("x", 2), (0, "2.0"), (0, "²"), (0, "9" * 5000)],
)
def test_part_out_of_range_is_refused(seq: int | str, count: int | str) -> None:
    with pytest.raises(PayloadError):
        Parts().add(part(seq, count, b"x"), 0.0)


def test_part_that_does_not_say_of_which_event_is_refused() -> None:
    with pytest.raises(PayloadError):
        Parts().add(part(0, 2, b"x", name=""), 0.0)


def test_parts_that_disagree_are_refused_and_forgotten() -> None:
    waiting = Parts()
    waiting.add(part(0, 3, b"x"), 0.0)

    with pytest.raises(PayloadError):
        waiting.add(part(1, 2, b"y"), 0.0)
    assert [waiting.add(part(seq, 2, b"z"), 0.0) for seq in (0, 1)] == [None, b"zz"]


def test_event_that_grows_too_large_is_refused() -> None:
    waiting = Parts()
    half = bytes(parts.MAX_EVENT_BYTES // 2)
    waiting.add(part(0, 3, half), 0.0)
    waiting.add(part(1, 3, half), 0.0)

    with pytest.raises(PayloadError):
        waiting.add(part(2, 3, b"x"), 0.0)


def test_too_many_unfinished_events_are_refused_until_old_ones_are_forgotten() -> None:
    waiting = Parts()
    for number in range(parts.MAX_WAITING):
        waiting.add(part(0, 2, b"x", f"m{number}"), 0.0)

    with pytest.raises(PayloadError):
        waiting.add(part(0, 2, b"x", "one more"), 0.0)
    assert waiting.add(part(1, 2, b"y", "m0"), 0.0) == b"xy"
    assert waiting.add(part(0, 2, b"x", "one more"), parts.LIFE_S + 1) is None
    assert waiting.add(part(1, 2, b"y", "one more"), parts.LIFE_S + 1) == b"xy"
