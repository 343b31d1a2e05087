"""Words and patterns in texts: found in every disguise, in time, and never shown while a text grows."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.words import rules, scanning
from bots.words.scanning import Listed, Matcher, Scan, covered


def matcher(text: str, *, whole_words: bool = False) -> Matcher:
    return Matcher([Listed(rule, "1", "list", "mask", whole_words) for rule in rules.read(text)])


def shown(lists: Matcher, text: str) -> str:
    return covered(text, lists.hits(text))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bad", "＊＊＊"),
        ("a BaD day", "a ＊＊＊ day"),
        ("Ｂａｄ", "＊＊＊"),
        ("b\u200ba\u00add", "＊＊＊＊＊"),
        ("b\u00e1d", "＊＊＊"),
        ("ba\u0301d", "＊＊＊＊"),
        ("badger", "＊＊＊＊＊＊"),
        ("abadbad", "a＊＊＊＊＊＊"),
        ("这是敏感词汇", "这是＊＊＊汇"),
        ("敏感", "敏感"),
        ("call 13812345678 now", "call ＊＊＊＊＊＊＊＊＊＊＊ now"),
        ("1381234567", "1381234567"),
        ("\ufb01sh", "＊＊＊"),  # a ligature of two letters
    ],
)
def test_a_word_is_found_however_it_is_written(text, wanted):
    assert shown(matcher("bad\nbadger\n敏感词\nfish\n/1[3-9]\\d{9}/"), text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cat", "＊＊＊"),
        ("a cat.", "a ＊＊＊."),
        ("concat cats", "concat cats"),
        ("这cat这", "这＊＊＊这"),
        ("cat_1", "cat_1"),
        ("大猫咪", "大＊咪"),
    ],
)
def test_whole_words_have_borders_where_the_script_has_some(text, wanted):
    assert shown(matcher("cat\n猫", whole_words=True), text) == wanted


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/a+/", "without end"),
        ("/(a|a){1,50}b/", "too long on some texts"),
        ("/(a{1,12}){1,12}b/", "too long on some texts"),
        ("/(?=a)b/", "look around"),
        ("/(a)\\1/", "refer back"),
        ("/a{0,3}/", "nothing at all"),
        ("/(/", "no regular expression"),
        ("\u200b", "nothing in it"),
        ("x" * 101, "100 signs"),
    ],
)
def test_a_rule_that_could_do_harm_is_refused_with_its_line(line, reason):
    with pytest.raises(rules.BadRule, match=reason) as refused:
        rules.check(f"# comment\n\ngood\n{line}")
    assert refused.value.line == 4


def test_a_pattern_that_takes_too_long_counts_as_found():
    slow = rules.read("/(?:a|a){1,60}b/")[0]
    lists = Matcher([Listed(slow, "1", "list", "block", False)])
    started = time.monotonic()

    hits = lists.hits("a" * 3_000)

    assert {hit.listed.action for hit in hits} == {"block"}
    assert time.monotonic() - started < 2


PIECES = st.lists(st.sampled_from(["b", "ba", "ad", "d", "d1", "21", "2", "敏", "感", "词", " ", "x", "\u200b", "Ｂ"]))
LISTS = matcher("bad\nadd\n敏感词\n/d[12]{1,3}/")
WHOLE = matcher("bad\nadd", whole_words=True)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.sampled_from([LISTS, WHOLE]))
def test_what_is_shown_of_a_growing_text_is_what_its_end_shows(pieces, lists):
    """Whatever the cuts: every text shown on the way is a beginning of the final one, so no word is ever seen."""
    scan, hits, text, steps = Scan(lists), [], "", []
    for piece in pieces:
        text += piece
        hits += scan.feed(piece)
        steps.append(covered(text, hits)[: scan.settled])
    final = covered(text, [*hits, *scan.end()])

    assert final == shown(lists, text)
    assert all(final.startswith(step) for step in steps)


def test_ordinary_text_is_not_held_back_by_words():
    scan = Scan(matcher("secret\n绝密文件"))

    assert [(scan.feed(piece), scan.settled)[1] for piece in ("Good morning", " sec", "ond", " 绝", "对")] == [
        12,
        13,
        19,
        20,
        22,
    ]


def test_ten_thousand_words_cost_about_as_much_as_one():
    many = matcher("\n".join(f"word{number}x" for number in range(10_000)))
    text = "word12 and word999 are no words of the list, 但是这里有很多汉字。" * 100
    started = time.perf_counter()

    assert many.hits(text) == []
    assert time.perf_counter() - started < 3
    assert scanning.covered(text, many.hits(text)) == text
