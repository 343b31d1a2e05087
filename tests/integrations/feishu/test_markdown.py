"""The cleaner: what the model writes can be read, and does nothing else."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from integrations.feishu import cards, markdown

from .fake_feishu import MENTION, PICTURE, TABLE

HOSTILE = [
    '<at user_id="all">everyone</at>',
    "<at id=all></at>",
    "<AT id='all' ></AT>",
    "< at id=all>",
    "<\tat\nid=all>",
    "<at\u200b id=all>",
    "<\u200bat id=all>",
    "</at>",
    "&lt;at id=all&gt;",
    "&#60;at id=all>",
    "&#x3C;at id=all>",
    "&ltat id=all>",
    "`<at id=all>`",
    "```\n<at id=all></at>\n```",
    "    <at id=all></at>",
    "<<at id=all>>",
    "<a<at id=all>t id=all>",
    "\\<at id=all>",
    "<at:x> <at id=all>",
    "[<at id=all>](https://e.com)",
    "[x](<at id=all>)",
    "![<at id=all>](https://e.com/x.png)",
    "| <at id=all> | b |\n|--|--|\n| c | <at id=all> |",
    "![x](https://evil.example/x.png?q=1)",
    "!\\[x](https://evil.example)",
    "\\![x](https://evil.example)",
    "!\\[x\\](https://evil.example)",
    "![x][r]\n\n[r]: https://evil.example/x.png",
    "[![x](https://evil.example/x.png)](https://evil.example)",
    "`![` and `](https://evil.example)`",
    "```\n![x](https://evil.example)\n```",
    "!`a`[x](https://evil.example)",
    "[bank](https://evil.example)",
    "[https://bank.example](https://evil.example)",
    "[bank][r]\n\n[r]: https://evil.example",
    "[r]: https://evil.example 'title'",
    "> [r]:\n> <https://evil.example>",
    "\\`[x](https://evil.example)`",
    "&#96; `[x](https://evil.example)`",
    "&#91;x&#93;(https://evil.example)",
    "\\` a `[x](https://evil.example)`",
    "&#92;`[x](https://evil.example)`",
    "`a&#96; [x](https://evil.example)`",
    "&#33;&#91;x&#93;(https://evil.example)",
    "x&#10;&#10;&#91;r&#93;: https://evil.example",
    "a&#x202e;b",
    "\\[x\\](https://evil.example)",
    "``a`[x](https://evil.example)`",
    "`` ` ``[x](https://evil.example)`` ` ``",
    "````\n```\n[x](https://evil.example)\n```\n````",
    "~~~\n```\n[x](https://evil.example)\n~~~",
    "[x](javascript:alert) [y](file:///etc/passwd) [z](lark://x)",
    "<javascript:alert(1)> <https://e.com>",
    "<script>alert(1)</script><font color=red>x</font><!-- c -->",
    "|a|b|\n|-|-|\n|1|2|\n\n" * 6,
    "```\n|a|b|\n|---|---|\n|1|2|\n```\n\n" * 6,
    "--- | ---\n" * 5,
    "[" * 200,
    "![" * 200 + "](x)",
    "[x](https://evil.example) ![y](https://evil.example) <at id=all> " * 600,
    "> " * 60 + "x",
    "".join("  " * depth + "- x\n" for depth in range(30)),
    "`" * 300,
    "a\x00b\ud800c\u202ed\x1b[31m",
]


def hidden_targets(text: str) -> list[str]:
    """Targets of links that a CommonMark reader makes of ``text`` and that nobody can see, and embedded pictures."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        children = token.children or []
        for i, child in enumerate(children):
            if child.type == "image":
                found.append(str(child.attrGet("src")))
            if child.type == "link_open" and child.markup != "autolink":
                assert children[i + 1]
                found.append(str(child.attrGet("href")))
            if child.type == "html_inline":
                found.append(child.content)
        if token.type == "html_block":
            found.append(token.content)
    return found


def naive_links(text: str) -> list[str]:
    """Named links for a reader that takes any three backticks for a fence and any two for a code span."""
    text = re.sub(r"^[ >]*(?:(?:-|\d+\.) +)*```.*?^[ >]*```[^\n]*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\[[^\]\n]*\]\(\s*<?\w+:", re.sub(r"`[^`\n]+`", "", text))


def assert_harmless(text: str) -> None:
    for reader in (text, text.replace("\\", ""), unescape(text)):  # some know no escapes, some decode entities first
        assert not MENTION.search(reader)
        assert not re.search(r"<[/\u200b]*at\b", reader, re.IGNORECASE)
        assert not PICTURE.search(reader)
        assert not naive_links(reader)
    assert len(TABLE.findall(text)) <= 3
    assert hidden_targets(text) == []
    text.encode()


def shown(text: str) -> list[str]:
    """Every text that people see for a reply, in a card and in messages."""
    head, rest = cards.fit(text)
    messages = [*cards.parts(text), *rest]
    assert all("\\u" not in message.content or "\\u" in text for message in messages)
    return [head, *(_text(message) for message in messages)]


def _text(part: cards.Part) -> str:

    content = json.loads(part.content)
    return str(content["text"] if part.msg_type == "text" else content["zh_cn"]["content"][0][0]["text"])


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:30]))
@pytest.mark.rule("L3", "L4")
def test_hostile_markdown_does_nothing(text: str) -> None:
    for variant in (text, f"Hello {text} bye", f"- {text}\n- x", f"# {text}", f"> {text}", text.replace("\n", "\r\n")):
        for seen in shown(variant):
            assert_harmless(seen)


PIECES = [
    "<at id=all>",
    "<",
    "at",
    "all",
    "!",
    "[",
    "]",
    "(",
    ")",
    "](",
    "![",
    "`",
    "``",
    "```",
    "~~~",
    "\\",
    "&lt;",
    "&#96;",
]
PIECES += [
    "https://e.com/x",
    "x",
    " ",
    "\n",
    "\n\n",
    "|",
    "---",
    "-",
    "> ",
    "- ",
    "1. ",
    "    ",
    "*",
    "**",
    "_",
    "~~",
    "#",
    ":",
    "\u200b",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join))
@example("``[x](https://e.com/x)`")
@example("`[`](https://e.com) `[x](https://e.com)`")
@pytest.mark.rule("L3", "L4")
def test_no_text_mentions_embeds_or_hides_a_target(text: str) -> None:
    for seen in shown(text):
        assert_harmless(seen)


@pytest.mark.parametrize("words", [2_500, 6_000])
def test_a_code_span_that_is_torn_by_a_cut_lets_no_link_out(words: int) -> None:
    for seen in shown(f"`[x](https://evil.example) {'word ' * words} [x](https://evil.example)`"):
        assert_harmless(seen)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join))
def test_a_cut_piece_of_clean_markdown_is_harmless_when_it_is_cleaned_again(text: str) -> None:
    cleaned = markdown.clean(text)

    for place in range(0, len(cleaned), 3):
        assert_harmless(markdown.clean_part(cleaned[place:]))


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("plain words, 中文 and 😀", "plain words, 中文 and 😀"),
        ("one\ntwo  \nthree\n\nfour", "one\ntwo\nthree\n\nfour"),
        ("# Title\ntext", "# Title\n\ntext"),
        ("**bold** _it_ ~~gone~~ `code`", "**bold** _it_ ~~gone~~ `code`"),
        ("- a\n- b\n  - c\n\n\n- d", "- a\n- b\n    - c\n- d"),
        ("3. a\n4. b\n   text", "3. a\n4. b\n    text"),
        ("> said\nlazily", "> said\n> lazily"),
        ("```python\nif a < b:\n    x = {'k': [1](2)}\n```", "```python\nif a < b:\n    x = {'k': [1](2)}\n```"),
        ("```rust\n#![allow(x)]\nlet v = vec![1, 2];\n```", "```rust\n#![allow(x)]\nlet v = vec![1, 2];\n```"),
        ("```a b{c}\nx\n```", "```a\nx\n```"),
        ("~~~\n```\n~~~", "````\n```\n````"),
        ("    indented\n      code", "```\nindented\n  code\n```"),
        ("|a|b|\n|-|:-:|\n|`x\\|y`|z|", "| a | b |\n| --- | --- |\n| `x\\|y` | z |"),
        ("text\n---\nmore", "text\n\n---\n\nmore"),
        ("[words](https://e.com/a?b=1&c=2 'title')", "words (https://e.com/a?b=1&c=2)"),
        ("[https://e.com](https://e.com)", "https://e.com"),
        ("<https://e.com>", "https://e.com"),
        ("[words][r]\n\n[r]: https://e.com", "[words][r]\n\n[r] : https://e.com"),
        ("[](https://e.com)", "https://e.com"),
        ("[mail](mailto:a@e.com)", "[mail] (mailto:a@e.com)"),
        ("<mailto:a@e.com>", "[mailto:a@e.com] (mailto:a@e.com)"),
        ("![chart](https://e.com/x.png)", "chart (https://e.com/x.png)"),
        ("![](img_v3_1)", "img_v3_1"),
        ("![]()", "…"),
        ("a < b, 1<2, List<String>, x <= y", "a < b, 1<2, List＜String>, x <= y"),
        ("Wow![1] and a[0](x)", "Wow! [1] and a[0] (x)"),
        ("2 \\* 3 &amp; &#42; more", "2 \\* 3 & * more"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_ordinary_markdown_is_kept(written: str, wanted: str) -> None:
    assert markdown.clean(written) == wanted


def test_tables_beyond_the_third_become_code() -> None:
    cleaned = markdown.clean("|a|b|\n|-|-|\n|1|2|\n\n" * 5)

    assert cleaned.count("| --- | --- |") == 3
    assert cleaned.count("```\na | b\n1 | 2\n```") == 2


def test_plain_words_only_grow_while_they_are_written() -> None:
    text = " ".join(f"word{i}" for i in range(40)) + "\n\nnew paragraph, 中文。\nnew line. **bold** and - dash"

    steps = [cards.preview(text[:end]) for end in range(1, len(text) + 1)]

    assert all(later.startswith(earlier) for earlier, later in pairwise(steps))
    assert steps[-1] == text


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("two\n\nparagraphs, 3 * 4 < 13 (or so) [1]", True),
        ("**b**", False),
        ("- a", False),
        ("`c`", False),
        ("# t", False),
        ("[a](https://e.com)", False),
        ("<https://e.com>", False),
        ("1. x", False),
        ("> q", False),
    ],
)
def test_text_without_markdown_is_sent_as_plain_text(text: str, is_plain: bool) -> None:
    assert markdown.is_plain(text) is is_plain
    assert [part.msg_type for part in cards.parts(text)] == ["text" if is_plain else "post"]


def test_worst_case_texts_are_cleaned_in_time() -> None:
    for text in ("[" * 9000, "![" * 9000, "> " * 9000, "*a_" * 9000, "`a" * 9000, "|" * 9000, " " * 9000):
        started = time.process_time()
        cards.preview(text)
        assert time.process_time() - started < 1, text[:10]


def test_deep_nesting_loses_no_words() -> None:
    assert markdown.clean("".join("  " * depth + f"- word{depth}\n" for depth in range(40))).endswith("word39")
    assert markdown.clean("> " * 40 + "word").endswith("word")
