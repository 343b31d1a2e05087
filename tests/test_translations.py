"""The Chinese catalogue is whole: every sentence of the code, translated, with its placeholders, and compiled."""

from __future__ import annotations

import ast
import gettext
import re
from dataclasses import dataclass

import pytest
from django.utils import translation

from scripts import translations

PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd%]|\{\w*\}")
HINT = "run `make messages`, then translate what is new in django.po"


@dataclass(frozen=True)
class Entry:
    flags: str
    texts: translations.Text
    translated: str

    def __str__(self) -> str:
        return self.texts[0][:60]


def entries() -> list[Entry]:
    """Of the .po file, its header left out."""
    blocks = translations.CATALOGUE.read_text("utf-8").split("\n\n")[1:]
    return [_entry(block) for block in blocks]


def _entry(block: str) -> Entry:
    flags = " ".join(line for line in block.splitlines() if line.startswith("#,"))
    fields = dict(re.findall(r'^(msg\S+) ((?:".*"\n?)+)', block, re.MULTILINE))
    said = {name: "".join(map(ast.literal_eval, quoted.splitlines())) for name, quoted in fields.items()}
    texts = tuple(said[name] for name in ("msgid", "msgid_plural") if name in said)
    return Entry(flags, texts, said.get("msgstr", said.get("msgstr[0]", "")))


ENTRIES = entries()
KNOWN = {entry.texts for entry in ENTRIES}


def test_the_catalogue_is_read() -> None:
    assert len(KNOWN) == len(ENTRIES) > 500


def test_nothing_is_untranslated_or_only_guessed() -> None:
    assert [str(entry) for entry in ENTRIES if not entry.translated or "fuzzy" in entry.flags] == [], HINT


def test_placeholders_are_kept() -> None:
    wrong = [str(entry) for entry in ENTRIES if placeholders(entry.texts[-1]) != placeholders(entry.translated)]

    assert wrong == []


def placeholders(text: str) -> list[str]:
    return sorted(PLACEHOLDER.findall(text))


def test_chinese_text_has_chinese_punctuation() -> None:
    wrong = [entry for entry in ENTRIES if re.search(r"[\u4e00-\u9fff][,.;?!]|[,;?!][\u4e00-\u9fff]", entry.translated)]

    assert [str(entry) for entry in wrong] == []


@pytest.mark.parametrize("package", translations.PACKAGES)
def test_every_sentence_of_the_code_is_in_it(package: str) -> None:
    found = translations.texts_in(translations.ROOT / package)

    assert sorted(text[0] for text in found - KNOWN) == [], HINT


@pytest.mark.parametrize("package", translations.SILENT)
def test_every_sentence_of_packages_without_translations_is_in_it(package: str) -> None:
    """A plural shares its key with the same sentence alone."""
    found = translations.texts_of_package(package)

    assert sorted(text[0] for text in found - KNOWN) == [], HINT


def test_it_holds_nothing_that_nobody_says() -> None:
    found = set().union(*(translations.texts_in(translations.ROOT / name) for name in translations.PACKAGES))
    found |= set().union(*(translations.texts_of_package(name) for name in translations.SILENT))

    assert sorted(text[0] for text in KNOWN - found) == [], HINT


def test_words_of_django_keep_their_meaning() -> None:
    """Ours win all over the admin. `active` is a switch here and there; a `group` is of chats and of users."""
    django = translations.known_to_django()
    other = {entry.texts[0] for entry in ENTRIES if django.get(entry.texts[0], entry.translated) != entry.translated}

    assert other == {"active", "group"}


def test_the_compiled_file_is_that_of_the_catalogue() -> None:
    with translations.CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = dict(gettext.GNUTranslations(file)._catalog)

    del compiled[""]
    assert compiled == {entry.texts[0] if len(entry.texts) == 1 else (entry.texts[0], 0): entry.translated
                        for entry in ENTRIES}, HINT  # fmt: skip


def test_the_site_speaks_it() -> None:
    with translation.override("zh-hans"):
        assert translation.gettext("Playground") == "对话试用"
        assert translation.ngettext("%(count)d message is tried again.", "%(count)d messages are tried again.", 2) == (
            "正在重试 %(count)d 条消息。"
        )


class TestReadingTheCode:
    def test_python(self) -> None:
        source = (
            'x = _("one" " two"), models.CharField(_lazy("no")), ngettext("a", "b", n), _(variable), t.gettext("c")'
        )

        assert list(translations.python_texts(source)) == [("one two",), ("a", "b"), ("c",)]

    def test_templates(self) -> None:
        source = (
            '{% load i18n %}{% translate "It\'s" %} {{ x|default:_("Ask") }} {% translate \'Say "hi"\' as y %}'
            "{% blocktranslate with a=b trimmed %}\n  {{ a }} ago\n{% endblocktranslate %}"
            "{% blocktranslate count n=m %}{{ n }} row{% plural %}{{ n }} rows{% endblocktranslate %}"
        )

        found = set(translations.template_texts(source))

        assert found == {("It's",), ("Ask",), ('Say "hi"',), ("%(a)s ago",), ("%(n)s row", "%(n)s rows")}
