from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from integrations.dingtalk.markdown import clean, plain_text, preview
from integrations.dingtalk.splitting import Size, split

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
RINGS = re.compile(r"[@＠﹫][\s*_~`]*(all(?![a-z])|everyone|所有人|全体)|\batid\s*=|</?at\b", re.IGNORECASE)


def assert_safe(text: str) -> None:
    """By the eyes of a reader that takes HTML: no picture, no tag but a line break, no hidden target, no ring."""
    assert "![" not in text
    assert not RINGS.search(text), text
    for node in SyntaxTreeNode(READER.parse(text)).walk():
        assert node.type not in ("image", "html_block"), text
        assert node.type != "html_inline" or node.content == "<br>", text
        if node.type == "link":
            label = "".join(child.content for child in node.walk() if child.type == "text")
            assert re.match(r"https?://", str(node.attrs["href"])), text
            assert _readable(label) == _readable(str(node.attrs["href"])), text


def _readable(url: str) -> str:
    return READER.normalizeLink(READER.normalizeLinkText(url))


@pytest.mark.parametrize(
    ("source", "robot"),
    [
        ("answer", "answer"),
        ("# T *x*\n\ntext", "# T *x*\n\ntext"),
        ("**b** _i_ ~~s~~ `c`", "**b** *i* ~~s~~ `c`"),
        ("one\ntwo", "one  \ntwo"),
        ("- a\n- b\n  1. c\n  2. d", "- a\n- b\n  1. c\n  2. d"),
        ("3) a\n4) b", "3. a\n4. b"),
        ("> q\n> r", "> q  \n> r"),
        ("[text](https://e.example/a_b)", "text ([https://e.example/a_b](https://e.example/a_b))"),
        ("<https://e.example/>", "[https://e.example/](https://e.example/)"),
        ("[t](/relative) [t](mailto:a@b.c)", "t t"),
        ("[t][1]\n\n[1]: https://e.example", "t ([https://e.example](https://e.example))"),
        ("![alt](https://e.example/p.png)", "alt ([https://e.example/p.png](https://e.example/p.png))"),
        ("![](https://e.example/p.png)", "[https://e.example/p.png](https://e.example/p.png)"),
        ("[x](https://good.example@evil.example)", "x"),
        (
            "[t](<https://e.example/@a(b)*c*>)",
            "t ([https://e.example/%40a%28b%29%2Ac%2A](https://e.example/%40a%28b%29%2Ac%2A))",
        ),
        ("```\n[a](https://e.example) f[0](x)\n```", "```\n[a]\u200b(https://e.example) f[0](x)\n```"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | **4** |", "- a: 1; b: 2\n- a: 3; b: **4**"),
        ("| a | b |\n|---|---|", "- a; b"),
        ("    code *x*", "```\ncode *x*\n```"),
        ("~~~py extra\n@property\nx = chatId = 1\n~~~", "```py\n@property\nx = chatId = 1\n```"),
        ("- a\n\n  ```\n  c\n  ```\n- b", "- a\n\n```\nc\n```\n- b"),
        ("a<br>b", "a  \nb"),
        ("a *** b\n\n***", "a *** b\n\n---"),
        ("a\x00\x1b\u202eb\ud800", "ab"),
        ("mail bob@example.com or https://e.example/@x", "mail bob@example.com or https://e.example/@x"),
        ("   ", ""),
    ],
)
def test_robot_markdown_is_what_dingtalk_shows_when_cleaned(source: str, robot: str) -> None:
    assert clean(source) == robot
    assert_safe(clean(source))


def test_card_keeps_its_tables_and_line_breaks_when_cleaned() -> None:
    source = "one\ntwo\n\n| a | b |\n|---|---|\n| 1 | x\\|y |"
    assert clean(source, rich=True) == "one<br>two\n\n| a | b |\n| --- | --- |\n| 1 | x\\|y |"


RINGING = [
    "@all",
    "@ALL",
    "@All!",
    "@所有人",
    "＠所有人",
    "@*all*",
    "@**all**",
    "@`all`",
    "@\u2060all",
    "x@all",
    "你好@所有人",
    '<a atId="all">all</a>',
    "<a atId='all'>x</a>",
    "<at id=all></at>",
    "<AT ID=all>",
    "&#64;all",
    "&lt;at id=all&gt;",
    "\\@all",
    "\\<at id=all>",
    "`@all`",
    "```\n@all <at id=all>\n```",
    "[@all](https://e.example)",
    "# @all",
    "| @all |\n|---|\n| @所有人 |",
    "https://e.example/@all",
    "<https://e.example/@all>",
    "@everyone",
]


@pytest.mark.parametrize("source", RINGING)
@pytest.mark.parametrize("rich", [False, True])
@pytest.mark.rule("L4")
def test_nobody_is_rung_at_when_the_model_writes_a_mention(source: str, rich: bool) -> None:
    text = clean(f"Hello {source} bye\n\n{source}\n", rich=rich)
    assert_safe(text)
    assert not RINGS.search(preview(text))
    assert not RINGS.search(plain_text(source))


@pytest.mark.rule("L4")
def test_mention_of_a_person_is_split_when_the_model_writes_it() -> None:
    assert clean("ask @staff0001 now") == "ask @\u200bstaff0001 now"


PICTURES_AND_LURES = [
    "\\!\\[x\\](https://e.example/p.png)",
    "\\![x](https://e.example/p.png)",
    "!\\[x](https://e.example/p.png)",
    "!<https://e.example/p.png>",
    "![a][r]\n\n[r]: https://e.example/p.png",
    "[![a](https://e.example/1)](https://e.example/2)",
    "`![x](https://e.example/p.png)`",
    "```\n![x](https://e.example/p.png)\n[bank](https://evil.example)\n```",
    "&#33;[x](https://e.example)",
    "\\[bank](https://evil.example)",
    "[bank\\]\\(https://evil.example)",
    "\\[bank][r]\n\n\\[r]: https://evil.example",
    "[a\\](https://e.example) b](https://evil.example)",
    "[https://good.example](https://evil.example)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,x)",
    "[x](dingtalk://dingtalkclient/page/link?url=x)",
    "<img src=https://e.example/p.png>",
    "\\<img src=x>",
    "&lt;img src=x&gt;",
    "<font color=red>x</font>",
    "<!-- x -->",
    "<a href='https://evil.example'>x</a>",
    "[x](<https://e.example/a b(c)d>)",
    "[x](https://e.example/a*b_c_d)",
    '[x](https://e.example "![t](u)")',
    "[x](https://[::1]/)",
    "[x](//evil.example)",
    "[x](https://)",
    "[x](https:evil.example)",
    "\\`\\`\\`\n![x](u)\n\\`\\`\\`",
]


@pytest.mark.parametrize("source", PICTURES_AND_LURES)
@pytest.mark.parametrize("rich", [False, True])
@pytest.mark.rule("L3")
def test_no_picture_and_no_hidden_target_when_the_model_tries(source: str, rich: bool) -> None:
    assert_safe(clean(source, rich=rich))
    assert_safe(clean(f"- x\n  > {source} y", rich=rich))
    assert_safe(clean(f"| a |\n|---|\n| {source} |", rich=rich))


PIECES = st.sampled_from(
    [
        "!",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "@",
        "all",
        "所有人",
        "a",
        "at",
        "Id",
        "=",
        "*",
        "**",
        "_",
        "`",
        "```",
        "~~~",
        "\n",
        "\n\n",
        " ",
        "    ",
        "|",
        "---",
        "# ",
        "- ",
        "1. ",
        "> ",
        "\\",
        "&",
        "#64;",
        "lt;",
        ":",
        "https://e.example",
        "/",
        "<br>",
        "![x](https://e.example)",
        "[r]: https://e.example",
        "[r]",
        "<at id=all>",
        "\u200b",
        "你",
        "👍🏽",
        "\r",
        "\x00",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=30).map("".join), st.booleans())
@pytest.mark.rule("L3", "L4")
def test_output_is_safe_when_the_input_is_arbitrary(source: str, rich: bool) -> None:
    text = clean(source, rich=rich)
    assert_safe(text)
    assert_safe(clean(text))  # a card's rest goes through once more
    for part in split(text, Size(chars=60, bytes=120)):
        assert_safe(part)
    assert not RINGS.search(plain_text(source))
    assert preview(text)


@pytest.mark.parametrize("source", ["好的 👍🏽：龘靐齉𠮷", "one\ntwo", "a\n\nb", "3 * 4 is 12"])
def test_plain_text_is_unchanged_when_it_holds_no_markdown(source: str) -> None:
    assert plain_text(source) == source


@pytest.mark.parametrize(
    "source", ["*a*", "- a", "# a", "`a`", "https://x <b>", "a\\*", "&amp;", "[a](b)", "```\nx\n```", "a  \nb", ""]
)
def test_plain_text_is_empty_when_there_is_markdown(source: str) -> None:
    assert plain_text(source) == ""


def test_preview_is_short_and_without_marks_when_taken_from_markdown() -> None:
    assert preview("# Your **order**\n- [https://e.example](https://e.example)") == "Your order - https://e.example"
    assert len(preview("字" * 500)) == 40
    assert preview("---") == "…"


@pytest.mark.parametrize("piece", ["[", "*a_ ", "![a](b ", "`", "<a ", "> ", "|a", "[a]: b\n", "~~a", "@", "- "])
def test_cleaning_ends_soon_when_the_text_is_hostile(piece: str) -> None:
    assert_safe(clean(piece * (30_000 // len(piece)))[:2000])
