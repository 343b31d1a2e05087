"""Rates as an SVG of horizontal bars, legible on light and on dark paper. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, NAME, START, VALUE = 760, 115, 285, 70  # where names and bars begin; room for the last figure
BAR, GAP, TITLE = 16, 6, 34
COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#997700", "#0099aa")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)

Bars = Mapping[str, Mapping[str, float]]  # group -> name -> value


def svg(panels: Sequence[tuple[str, Bars]]) -> str:
    """One panel under the other; within a panel all bars share one scale."""
    body, height = "", 10
    for title, groups in panels:
        drawn, height = _panel(title, groups, height)
        body += drawn
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img"><style>{STYLE}</style>{body}</svg>\n'
    )


def _panel(title: str, groups: Bars, top: int) -> tuple[str, int]:
    known = [value for bars in groups.values() for value in bars.values() if not math.isnan(value)]
    most = max(known, default=1.0) or 1.0
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    body, at = _text(0, top + 18, title, "title"), top + TITLE
    for group, bars in groups.items():
        body += _text(0, at + BAR - 3, group)
        for name, value in bars.items():
            body += _bar(at, name, value, most, COLOURS[names.index(name) % len(COLOURS)])
            at += BAR + 2
        at += GAP
    return body, at + 12


def _bar(at: int, name: str, value: float, most: float, colour: str) -> str:
    """Drawn to scale; what was not measured has no bar, and says so."""
    room = WIDTH - START - VALUE
    size = 0.0 if math.isnan(value) else max(1.0, room * value / most)
    said = "not measured" if math.isnan(value) else f"{value:,.1f}"
    rectangle = f'<rect x="{START}" y="{at}" width="{size:.1f}" height="{BAR}" fill="{colour}"/>'
    return _text(NAME, at + BAR - 3, name) + rectangle + _text(START + 6 + int(size), at + BAR - 3, said)


def _text(x: int, y: int, words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}"{named}>{escape(words)}</text>'
