"""The documents say what is there: settings, links, commands, and the same in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands

from clawdbot_site.settings.env import env

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ANCHOR_CHARACTERS = re.compile(r"[^\w\- ]")
MAKE = re.compile(r"(?:`|^|&& |or )make ([a-z-]+)", re.MULTILINE)
MANAGE = re.compile(r"manage\.py ([a-z]+)")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def settings_of_env() -> list[str]:
    return sorted(env.scheme)


def words() -> Iterator[tuple[str, str]]:
    """(document, text) of all that a reader might type."""
    for document in DOCUMENTS:
        yield document.name, document.read_text("utf-8")


def test_settings_are_found_in_env() -> None:
    assert {"SECRET_KEY", "DEBUG", "CLAWDBOT_HOST"} <= set(settings_of_env())


def test_every_setting_is_documented() -> None:
    text = read("docs/settings.md")

    assert [name for name in settings_of_env() if f"`{name}`" not in text] == []


def test_env_example_holds_every_setting_commented_out() -> None:
    lines = read(".env.example").splitlines()

    names = [line.removeprefix("#").partition("=")[0] for line in lines if re.match(r"#[A-Z_]+=", line)]
    assert sorted(names) == settings_of_env()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_settings_of_the_documents_exist() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \|", read("docs/settings.md"), re.MULTILINE)

    assert [name for name in table if name not in settings_of_env()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = FENCED.sub("", document.read_text("utf-8"))
    targets = [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]

    assert [target for target in targets if not leads_somewhere(document, target)] == []


def leads_somewhere(document: Path, target: str) -> bool:
    path, _hash, anchor = target.partition("#")
    found = (document.parent / path) if path else document
    return found.exists() and (not anchor or anchor in anchors(found))


def anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {ANCHOR_CHARACTERS.sub("", title.lower()).replace(" ", "-") for title in titles}


def test_both_readmes_have_the_same_headings_and_commands() -> None:
    english, chinese = read("README.md"), read("README.zh.md")

    assert levels(chinese) == levels(english)
    assert FENCED.findall(chinese) == FENCED.findall(english)
    assert len(FENCED.findall(english)) > 4


def levels(text: str) -> list[str]:
    return re.findall(r"^(#+) ", FENCED.sub("", text), re.MULTILINE)


def test_both_readmes_lead_to_each_other_and_to_the_same_places() -> None:
    english, chinese = (set(LINK.findall(read(name))) for name in ("README.md", "README.zh.md"))

    assert english - {"README.zh.md"} == chinese - {"README.md"}
    assert "README.zh.md" in english
    assert "README.md" in chinese


def test_management_commands_of_the_documents_exist() -> None:
    known = get_commands()

    assert [(name, word) for name, text in words() for word in MANAGE.findall(text) if word not in known] == []


def test_make_targets_of_the_documents_exist() -> None:
    known = re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE)

    assert [(name, word) for name, text in words() for word in MAKE.findall(text) if word not in known] == []


def test_every_dependency_has_its_reason() -> None:
    text = read("docs/dependencies.md")
    lines = [line for file in (ROOT / "requirements").glob("*.in") for line in file.read_text("utf-8").splitlines()]
    names = [re.split(r"[<>=;\[ ]", line)[0] for line in lines if line and line[0] not in "#-"]

    assert [name for name in names if not re.search(rf"(?:\| |, ){re.escape(name)}\b", text)] == []


def test_documents_name_no_place_of_one_machine() -> None:
    private = re.compile(r"/(?:home|Users)/\w+/")

    assert [(name, found) for name, text in words() for found in private.findall(text)] == []


def test_license_is_the_plain_apache_text() -> None:
    text = read("LICENSE")

    assert text.split()[:3] == ["Apache", "License", "Version"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert "[yyyy] [name of copyright owner]" in text
