"""Where a message's time went, as figures in words and as one stacked bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

STAGES = {
    "queue": _("waited"),
    "first_token": _("first token"),
    "generate": _("written"),
    "deliver": _("sent"),
    "rest": _("otherwise"),
}
WIDTH, SMALLEST = 100.0, 1.0  # of the bar, in its own units: what took any time at all can be seen


@dataclass(frozen=True, slots=True)
class Part:
    """One stage's own time, without that of the stages inside it."""

    stage: str
    milliseconds: float

    @property
    def text(self) -> str:
        return f"{STAGES[self.stage]} {in_words(self.milliseconds)}"


def in_words(milliseconds: float | None) -> str:
    """A duration as people read it: 240 ms, 1.4 s, 2 min 5 s."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else str(timedelta(seconds=minutes * 60 + seconds))


def parts_of(timings: Mapping[str, Any]) -> list[Part]:
    """In the order in which they passed. ``generate`` is stored with the first token, ``total`` with everything."""
    own = {name: max(0.0, float(timings.get(name) or 0)) for name in STAGES}
    own["generate"] = max(0.0, own["generate"] - own["first_token"])
    own["rest"] = max(0.0, float(timings.get("total") or 0) - sum(own.values()))
    return [Part(name, took) for name, took in own.items() if took]


def bar(timings: Mapping[str, Any]) -> SafeString | str:
    """The bar, and what it took in all beside it; readers of the screen hear every figure."""
    parts = parts_of(timings)
    if not parts:
        return "–"
    spoken = ", ".join(part.text for part in parts)
    drawing = '<svg class="cb-times__bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
    drawn = format_html(drawing + "{}</svg>", spoken, _drawn(parts))
    return format_html('<span class="cb-times">{}<span>{}</span></span>', drawn, in_words(timings.get("total")))


def figures(timings: Mapping[str, Any]) -> SafeString | str:
    """The bar with its figures below, each with its colour."""
    row = '<li><i class="cb-times__key cb-times--{}" aria-hidden="true"></i>{} <strong>{}</strong></li>'
    rows = [(part.stage, STAGES[part.stage], in_words(part.milliseconds)) for part in parts_of(timings)]
    if not rows:
        return "–"
    listed = format_html('<ul class="cb-times__figures">{}</ul>', format_html_join("", row, rows))
    return format_html('<div class="cb-times cb-times--whole">{}{}</div>', bar(timings), listed)


def _drawn(parts: list[Part]) -> SafeString:
    whole = sum(part.milliseconds for part in parts)
    widths = [max(SMALLEST, WIDTH * part.milliseconds / whole) for part in parts]
    scale = WIDTH / sum(widths)
    starts = [sum(widths[:number]) * scale for number in range(len(parts))]
    rect = '<rect class="cb-times--{}" x="{}" y="0" width="{}" height="8"><title>{}</title></rect>'
    shapes = zip(parts, starts, widths, strict=True)
    return format_html_join("", rect, [(p.stage, f"{x:.2f}", f"{w * scale:.2f}", p.text) for p, x, w in shapes])
