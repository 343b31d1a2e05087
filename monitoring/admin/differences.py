"""Before and after of an entry, side by side; long texts line by line, with what left and what came marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import ndiff
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

CELL: Final = '<td class="p-2">{}</td>'
ROW: Final = f'<tr class="border-t align-top"><th class="p-2 text-left">{{}}</th>{CELL}{CELL}</tr>'
MOST_LINES: Final = 400  # comparing takes longer than in proportion


def table(changes: Mapping[str, Any]) -> SafeString | str:
    if not changes:
        return "–"
    rows = [(name, *_sides(change)) for name, change in changes.items()]
    head = format_html_join("", '<th class="p-2">{}</th>', [(_("field"),), (_("before"),), (_("after"),)])
    body = format_html_join("", ROW, rows)
    return format_html('<table class="w-full cb-diff"><tr class="text-left">{}</tr>{}</table>', head, body)


def _sides(change: Any) -> tuple[SafeString | str, SafeString | str]:
    """Before and after of one change; a plain value stands at the right."""
    if not (isinstance(change, dict) and change.keys() <= {"before", "after"}):
        return "", _shown(change)
    before, after = change.get("before"), change.get("after")
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        return _lines(before, after)
    is_known = before not in (None, "") and after not in (None, "")
    return _marked("del", before) if is_known else _shown(before), _marked("ins", after) if is_known else _shown(after)


def _lines(before: str, after: str) -> tuple[SafeString, SafeString]:
    old, new = before.splitlines()[:MOST_LINES], after.splitlines()[:MOST_LINES]
    compared = list(ndiff(old, new))
    return _side(compared, "- ", "del"), _side(compared, "+ ", "ins")


def _side(compared: list[str], sign: str, tag: str) -> SafeString:
    return format_html_join("\n", "{}", ((line,) for line in _kept(compared, sign, tag)))


def _kept(compared: list[str], sign: str, tag: str) -> Iterator[SafeString | str]:
    for line in compared:
        if line.startswith(sign):
            yield _marked(tag, line[2:])
        elif line.startswith("  "):
            yield line[2:]


def _marked(tag: str, value: Any) -> SafeString:
    open_tag = f'<{tag} class="cb-{tag}">'
    return format_html(open_tag + "{}</" + tag + ">", _shown(value))


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
