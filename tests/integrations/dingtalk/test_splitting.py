from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.dingtalk.splitting import MESSAGE, TRUNCATED, Size, cut, split

SMALL = Size(chars=80, bytes=160)


def test_text_is_one_part_when_it_fits() -> None:
    assert split("short") == ("short",)
    assert split("") == split(" \n ") == ()


def test_cut_prefers_paragraphs_then_lines_then_words_when_it_must() -> None:
    assert cut("a" * 60 + "\n\n" + "b b\n" * 20, SMALL) == ("a" * 60, ("b b\n" * 20).strip())
    assert cut("a" * 60 + "\n" + "b " * 40, SMALL)[0] == "a" * 60
    assert cut("a" * 60 + " " + "b" * 40, SMALL) == ("a" * 60, "b" * 40)
    assert cut("a" * 100, SMALL) == ("a" * 76, "a" * 24)


def test_cut_counts_bytes_when_characters_are_wide() -> None:
    head, rest = cut("字" * 100, SMALL)
    assert len(head.encode()) <= SMALL.bytes
    assert head + rest == "字" * 100


def test_emoji_stays_whole_when_the_cut_falls_into_it() -> None:
    for shift in range(8):
        parts = split("x" * shift + "👨‍👩‍👧‍👦👍🏽" * 40, Size(80, 300))
        assert all(not part.startswith(("\u200d", "🏽", "\ufe0f")) for part in parts)
        assert all(not part.endswith("\u200d") for part in parts)


def test_fence_is_closed_and_reopened_when_code_is_cut() -> None:
    code = "\n".join(f"line {i}" for i in range(30))
    parts = split(f"intro\n\n```py\n{code}\n```\n\nend", SMALL)
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert all(part.startswith("```py\n") for part in parts[1:])
    lines = [line for part in parts for line in part.split("\n") if line and not line.startswith("```")]
    assert lines == ["intro", *code.split("\n"), "end"]


def test_no_empty_code_is_left_when_the_cut_falls_on_a_fence() -> None:
    for length in range(30, 90):
        for part in split(f"{'a' * length}\n```py\n{'b' * 60}\n```\n{'c' * 60}", SMALL):
            assert not re.search(r"```(py)?\n```", part), part


def test_end_is_said_when_there_are_too_many_parts() -> None:
    parts = split("字\n" * 100_000)
    assert len(parts) == 20
    assert parts[-1].endswith(TRUNCATED)
    assert all(len(p) <= MESSAGE.chars and len(p.encode()) <= MESSAGE.bytes for p in parts)


def test_nothing_is_said_when_the_last_part_just_fits() -> None:
    assert TRUNCATED not in split("a" * 3496 * 19 + "b" * 3500)[-1]


WORDS = st.sampled_from(
    ["word ", "字", "👍🏽", "\n", "\n\n", "x" * 30, "```\ncode\n```\n", "```py\n" + "l\n" * 30 + "```\n"]
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=60).map("".join))
def test_parts_fit_and_lose_nothing_when_split(text: str) -> None:
    text = re.sub(r"(?<!\n)```", "\n```", text)
    parts = split(text, SMALL, max_parts=1000)
    assert all(part.strip() and len(part) <= SMALL.chars and len(part.encode()) <= SMALL.bytes for part in parts)
    assert all(sum(line.startswith("```") for line in part.split("\n")) % 2 == 0 for part in parts)
    assert _letters("".join(parts)) == _letters(text)


def _letters(text: str) -> str:
    return re.sub(r"```(py)?|\s", "", text)
