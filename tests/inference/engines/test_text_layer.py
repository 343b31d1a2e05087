"""The pure parts: think tags, stop strings, repetition, events, the breaker."""

from __future__ import annotations

import itertools
import random

import pytest

from inference.engines.breaker import CircuitBreaker
from inference.engines.reasoning import ReasoningSplitter
from inference.engines.sse import EventTooLarge, SseDecoder
from inference.engines.stopping import RepetitionGuard, StopStrings
from inference.text import estimated_tokens, held_back, well_formed


def cuts(text: str | bytes, seed: int) -> list:
    """Cut at random places."""
    rng = random.Random(seed)
    at = sorted({0, len(text), *(rng.randrange(len(text) + 1) for _ in range(rng.randrange(12)))})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def split(pieces: list[str], *, is_inside: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(is_inside=is_inside)
    found = [piece for text in pieces for piece in splitter.feed(text)] + splitter.close()
    return tuple("".join(text for kind, text in found if kind == wanted) for wanted in ("answer", "reasoning"))


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("plain", "plain", ""),
        ("<think>a</think>\n\nb", "b", "a"),
        ("<think>a</think><think>b</think>c", "c", "ab"),
        ("x <think>a</think> y", "x y", "a"),
        ("<think>never closed", "", "never closed"),
        ("<think></think>b", "b", ""),
        ("1 < 2 <thin ice", "1 < 2 <thin ice", ""),
        ("write `<think>` first", "write `<think>` first", ""),
        ("ends with <think", "ends with <think", ""),
        ("</think> alone", "</think> alone", ""),
        ("<think>你好</think>👍🏽", "👍🏽", "你好"),
    ],
)
def test_thinking_is_split_off_wherever_the_text_is_cut(text, answer, reasoning):
    for seed in range(30):
        assert split(cuts(text, seed)) == (answer, reasoning)


def test_a_template_may_have_opened_the_thinking():
    assert split(["a</think>b"], is_inside=True) == ("b", "a")


def test_text_that_cannot_be_a_tag_is_not_held_back():
    assert ReasoningSplitter().feed("a < b") == [("answer", "a < b")]


@pytest.mark.parametrize(("text", "stop", "shown"), [
    ("abcSTOPdef", ("STOP",), "abc"),
    ("abcSTO", ("STOP",), "abcSTO"),
    ("abababc", ("abc",), "abab"),
    ("one two", ("two", "one"), ""),
    ("a。b！c", ("！", "。"), "a"),
    ("text", ("",), "text"),
])  # fmt: skip
def test_stop_strings_wherever_the_text_is_cut(text, stop, shown):
    for seed in range(30):
        stopper = StopStrings(stop)
        assert "".join(map(stopper.feed, cuts(text, seed))) + stopper.close() == shown
        assert stopper.is_hit == (shown != text)


def test_held_back():
    assert held_back("abcST", ("STOP",)) == 2
    assert held_back("abcSTOP", ("STOP",)) == 0
    assert held_back("", ("STOP",)) == 0


NOISE = random.Random(1).choices(range(50), k=3000)


def circles(tokens: list[int]) -> int | None:
    """Return how many tokens were fed when the guard spoke."""
    guard = RepetitionGuard()
    return next((count for count, token in enumerate(tokens, start=1) if guard.feed(token)), None)


@pytest.mark.parametrize("size", [20, 57, 200])
def test_three_copies_of_a_block_are_a_circle(size):
    block = list(range(1000, 1000 + size))

    assert circles([1, 2, 3, *block * 4]) == 3 + 3 * size


@pytest.mark.parametrize(
    "tokens",
    [
        list(range(20)) * 2 + list(range(19)),
        list(range(19)) * 3,
        list(range(201)) * 4,
        [*range(30), 99, *range(30), 99, *range(30), 98],
        NOISE,
    ],
)
def test_less_than_that_is_none(tokens):
    assert circles(tokens) is None


STREAM = 'data: {"a": "你好👍"}\n\n: comment\nevent: x\nid: 1\ndata: one\ndata: two\n\ndata:three\n\ndata: [DONE]'


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_events_wherever_the_bytes_are_cut(line_end):
    raw = STREAM.replace("\n", line_end).encode()
    for seed in range(60):
        decoder = SseDecoder()
        events = [event for piece in cuts(raw, seed) for event in decoder.feed(piece)] + decoder.close()
        assert events == ['{"a": "你好👍"}', "one\ntwo", "three", "[DONE]"]


def test_an_event_without_end_is_refused():
    decoder = SseDecoder()
    decoder.feed(b"data: " + b"x" * 1_000_000)

    with pytest.raises(EventTooLarge):
        decoder.feed(b"x" * 100_000)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_breaker_opens_lets_one_probe_through_and_closes():
    clock = Clock()
    breaker = CircuitBreaker(threshold=2, open_s=15, clock=clock)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() == 15

    clock.now += 16
    assert [breaker.wait_s(), breaker.wait_s()] == [0, 15], "one probe, not two"
    breaker.failed()
    clock.now += 14
    assert breaker.wait_s() == 1
    clock.now += 1
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert [breaker.wait_s(), breaker.wait_s()] == [0, 0]


def test_a_probe_that_never_reports_is_followed_by_another():
    clock = Clock()
    breaker = CircuitBreaker(threshold=1, open_s=15, clock=clock)
    breaker.failed()
    clock.now += 15
    assert breaker.wait_s() == 0
    clock.now += 15
    assert breaker.wait_s() == 0


def test_lone_surrogates_are_replaced():
    assert well_formed("a\ud83db 👍") == "a\ufffdb 👍"


def test_estimated_tokens():
    assert estimated_tokens(["你好", "four", "x"]) == 4
