"""Rewrites the Chinese catalogue (`make messages`). Needs gettext's programs: sudo apt install gettext

    .venv/bin/python scripts/translations.py

New sentences come in untranslated, and tests/test_translations.py names them: translate them in django.po, run this
again. The admin's theme and the API keys' package ship no translations. Those of their sentences that Django does not
translate either are read from the installed versions, and stand at the end of our catalogue as if each package were
one file (unfold.py).
"""

from __future__ import annotations

import ast
import gettext
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.management.commands import makemessages
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[1]
LANGUAGE = "zh_Hans"
PACKAGES = ["bots", "clawdbot_site", "inference", "integrations", "monitoring"]
SILENT = ["unfold", "rest_framework_api_key"]  # packages without a Chinese catalogue of their own
LOCALE = ROOT / "clawdbot_site" / "locale"
CATALOGUE = LOCALE / LANGUAGE / "LC_MESSAGES" / "django.po"
SKIPPED = ["locale", "migrations", "static", "contrib", "__pycache__"]  # contrib: parts of the theme not in use here

Text = tuple[str, ...]  # a sentence, or its singular and its plural

CALLS = {"_": 1, "gettext": 1, "gettext_lazy": 1, "gettext_noop": 1, "ngettext": 2, "ngettext_lazy": 2}
QUOTED = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TEMPLATE_CALL = re.compile(rf"\b(_|n?gettext)\(\s*{QUOTED}(?:\s*,\s*{QUOTED})?", re.DOTALL)


# -- what is said in the code --


def texts_in(folder: Path) -> set[Text]:
    files = [path for path in folder.rglob("*") if not set(path.relative_to(folder).parts) & set(SKIPPED)]
    found: set[Text] = set()
    for path in files:
        if path.suffix == ".py":
            found.update(python_texts(path.read_text("utf-8")))
        elif path.suffix == ".html":
            found.update(template_texts(path.read_text("utf-8")))
    return found


def python_texts(source: str) -> Iterator[Text]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            texts = [_constant(argument) for argument in node.args[: CALLS.get(name, 0)]]
            if texts and all(texts):
                yield tuple(texts)


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def template_texts(source: str) -> Iterator[Text]:
    for name, *quoted in TEMPLATE_CALL.findall(templatize(source)):
        yield tuple(ast.literal_eval(text) for text in quoted[: CALLS[name]])


# -- what packages say that have no translations --


def texts_of_package(name: str) -> set[Text]:
    """What it says and Django's own catalogues do not know."""
    known = known_to_django()
    return {text for text in texts_in(_home(name)) if text[0] not in known}


def known_to_django() -> dict[str, str]:
    """Django's own Chinese catalogues. A plural's key is (sentence, form)."""
    known: dict[str, str] = {}
    for part in ("conf", "contrib/admin", "contrib/auth", "contrib/contenttypes", "contrib/sessions"):
        folder = _home("django") / part / "locale"
        catalogue: Any = gettext.translation("django", folder, languages=[LANGUAGE])
        known.update({key if isinstance(key, str) else key[0]: text for key, text in catalogue._catalog.items()})
    return known


def _home(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def write_stub(path: Path, texts: Iterable[Text]) -> None:
    """A file from which xgettext reads them."""
    lines = [f"gettext({text[0]!r})" if len(text) == 1 else f"ngettext({text[0]!r}, {text[1]!r}, n)" for text in texts]
    path.write_text("\n".join(lines) + "\n", "utf-8")


# -- the catalogue --


class Command(makemessages.Command):
    msgmerge_options = [*makemessages.Command.msgmerge_options, "--no-fuzzy-matching"]


def rewrite() -> None:
    """Works on copies: Django leaves half-made files beside the sources for a while."""
    settings.configure(LOCALE_PATHS=[str(LOCALE)], USE_I18N=True)
    django.setup()
    with tempfile.TemporaryDirectory() as folder:
        for name in PACKAGES:
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns(*SKIPPED, "*.safetensors"))
        for name in SILENT:
            write_stub(Path(folder, f"{name}.py"), sorted(texts_of_package(name)))
        os.chdir(folder)
        call_command(Command(), locale=[LANGUAGE], add_location="file", no_wrap=True, no_obsolete=True, verbosity=0)
        _drop_date()
        os.chdir(LOCALE.parent)  # compilemessages looks for a folder named locale
        call_command("compilemessages", locale=[LANGUAGE], verbosity=0)


def _drop_date() -> None:
    """A catalogue with the same sentences stays the same file."""
    lines = CATALOGUE.read_text("utf-8").splitlines(keepends=True)
    CATALOGUE.write_text("".join(line for line in lines if not line.startswith('"POT-Creation-Date')), "utf-8")


if __name__ == "__main__":
    rewrite()
