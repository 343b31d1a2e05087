"""Long texts in parts: nothing lost, nothing too long, nothing torn."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.feishu import cards
from integrations.feishu.splitting import encoded_bytes, split

LIMIT = 600
WORDS = st.sampled_from(["word", "中文", "👨‍👩‍👧‍👦", "🇨🇳", "é", "\n", "\n\n", " ", '"', "\\", "x" * 300, "字" * 120])


def bare(text: str) -> str:
    return re.sub(r"\s", "", text)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=120).map("".join))
def test_parts_hold_the_whole_text_within_the_limit(text: str) -> None:
    parts = split(text, LIMIT)

    assert bare("".join(parts)) == bare(text)
    assert all(encoded_bytes(part) <= LIMIT and part.strip() for part in parts)


def test_short_text_is_one_part_and_blank_text_none() -> None:
    assert split("  hello\n", LIMIT) == ["hello"]
    assert split(" \n ", LIMIT) == []
    assert [part.strip() for part in split(f"a{' ' * 3000}b", LIMIT)] == ["a", "b"]


def test_text_is_cut_at_a_paragraph_else_a_line_else_a_word() -> None:
    sentence = "twelve chars" * 20

    assert split(f"{sentence}\n\n{sentence}\n{sentence}", LIMIT)[0] == sentence
    assert split(f"{sentence}\n{sentence} {sentence}", LIMIT)[0] == sentence
    assert split(f"{'a' * 300} {'b' * 300}", LIMIT)[0] == "a" * 300


@pytest.mark.parametrize("family", ["👨‍👩‍👧‍👦", "👍🏽", "❤️", "1️⃣", "e\u0301"])
def test_what_is_seen_as_one_character_is_not_torn(family: str) -> None:
    for shift in range(12):
        parts = split("a" * shift + family * 300, LIMIT)
        assert len(parts) > 1
        assert all(part.lstrip("a").replace(family, "") == "" for part in parts)


def test_a_code_block_is_closed_and_opened_again_when_it_is_cut() -> None:
    lines = [f"line {i}" for i in range(200)]
    text = "before\n\n```python\n" + "\n".join(lines) + "\n```\n\nafter"

    parts = split(text, LIMIT)

    assert len(parts) > 3
    assert all(part.count("```") == 2 and encoded_bytes(part) <= LIMIT for part in parts)
    assert all(part.startswith("```python\n") for part in parts[1:])
    kept = [line for part in parts for line in part.splitlines() if line.startswith("line")]
    assert kept == lines


def test_a_code_block_in_a_list_keeps_its_indentation_when_it_is_cut() -> None:
    text = "- item\n\n    ```\n" + "\n".join(f"    line {i}" for i in range(100)) + "\n    ```"

    parts = split(text, LIMIT)

    assert all(part.rstrip().endswith("    ```") for part in parts)
    assert all(part.startswith("    ```\n    line") for part in parts[1:])


def test_size_counts_as_json_inside_json() -> None:
    for text in ("abc", "中文😀", 'a"b\\c\nd\te'):
        body = json.dumps({"content": json.dumps({"text": text}, ensure_ascii=False)}, ensure_ascii=False).encode()
        empty = json.dumps({"content": json.dumps({"text": ""})}).encode()
        assert encoded_bytes(text) == len(body) - len(empty)


@pytest.mark.parametrize(
    "unit", ["第1行：很长的回答。\n", 'say "x" \\ ', "字" * 50, "- **item** `code`\n", "```\na\n```\n\n"]
)
def test_every_message_of_a_very_long_reply_fits(unit: str) -> None:
    text = unit * (40_000 // len(unit.encode()))

    head, rest = cards.fit(text)

    assert len(cards.card(head, streaming=True).encode()) < 30 * 1024
    for part in (*cards.parts(text), *rest):
        request = json.dumps({"content": part.content, "uuid": "u" * 50}, ensure_ascii=False).encode()
        assert len(request) < 30 * 1024
