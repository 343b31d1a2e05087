"""The dashboard's curves of the last six hours, from the one-minute rollups: load, waiting times, this installation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.rollups.history import History

HOURS: Final = 6
STEP: Final = 5  # minutes of one point
POINTS: Final = HOURS * 60 // STEP
WIDTH, HEIGHT = 360.0, 100.0
KEPT_S: Final = 20.0
Value = Callable[[History, int], float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """``path`` in an SVG's words, within WIDTH and HEIGHT; gaps where nothing is known."""

    name: Any
    tone: str
    path: str
    last: str


@dataclass(frozen=True, slots=True)
class Curve:
    title: Any
    lines: list[Line]
    most: str
    has_values: bool
    labels: list[str]


@dataclass(frozen=True, slots=True)
class _Shown:
    name: Any
    tone: str
    value: Value


def _requests(history: History, ago: int) -> float | None:
    names = ("webhooks", "api", "admin")
    return _known(history, ago) and sum(history.sum(f"http|{name}", STEP, ago) for name in names) / STEP


def _errors(history: History, ago: int) -> float | None:
    names = ("webhooks", "api", "admin", "other")
    return _known(history, ago) and sum(history.sum(f"http|{name}|5xx", STEP, ago) for name in names) / STEP


def _known(history: History, ago: int) -> float | None:
    return 1.0 if history.window(STEP, ago) else None


def _p99_ms(history: History, ago: int) -> float | None:
    seconds = history.quantile("webhook", 0.99, STEP, ago)
    return None if seconds is None else seconds * 1000


def _total_s(history: History, ago: int) -> float | None:
    return history.quantile("stage|total", 0.95, STEP, ago)


def _first_s(history: History, ago: int) -> float | None:
    return history.quantile("stage|first_token", 0.95, STEP, ago)


def _percent(name: str) -> Value:
    def value(history: History, ago: int) -> float | None:
        found = history.level(name, STEP, ago)
        return max(found.values()) * 100 if found else None

    return value


CURVES: Final[list[tuple[Any, str, list[_Shown]]]] = [
    (_("Requests a minute"), "", [_Shown(_("all"), "main", _requests), _Shown(_("errors (5xx)"), "bad", _errors)]),
    (_("Callbacks, 99th percentile"), "ms", [_Shown(_("answered after"), "main", _p99_ms)]),
    (
        _("Answers, 95th percentile"),
        "s",
        [_Shown(_("until it is there"), "main", _total_s), _Shown(_("first token"), "other", _first_s)],
    ),
    (
        _("Machine"),
        "%",
        [_Shown(_("processors"), "main", _percent("cpu")), _Shown(_("memory"), "other", _percent("memory"))],
    ),
]

_history: Final = History(timedelta(hours=HOURS, minutes=10))
_lock = threading.Lock()


def curves(now: datetime) -> list[Curve]:
    """Two queries at most; none at all for who looks again within seconds. Empty when nobody keeps minutes."""
    with _lock:
        if abs((now - _history.now).total_seconds()) > KEPT_S:
            _history.refresh(now)
        if not _history.minutes:
            return []
        begins = [f"{timezone.localtime(now - timedelta(hours=ago)):%H:%M}" for ago in range(HOURS, 0, -1)]
        return [_curve(title, unit, shown, begins) for title, unit, shown in CURVES]


def _curve(title: Any, unit: str, shown: list[_Shown], labels: list[str]) -> Curve:
    values = [[one.value(_history, ago) for ago in range(POINTS * STEP - STEP, -1, -STEP)] for one in shown]
    known = [value for points in values for value in points if value is not None]
    most = max(known, default=0.0)
    scale = 100.0 if unit == "%" else most
    lines = [
        Line(
            one.name,
            one.tone,
            _path(points, scale),
            _words(next((v for v in reversed(points) if v is not None), None), unit),
        )
        for one, points in zip(shown, values, strict=True)
    ]
    return Curve(title, lines, _words(most, unit) if known else "", bool(known), labels)


def _path(points: list[float | None], most: float) -> str:
    """M begins a piece after a gap; a single point is a short stroke."""
    words, is_open = [], False
    for number, value in enumerate(points):
        if value is None:
            is_open = False
            continue
        x = number * WIDTH / (POINTS - 1)
        y = HEIGHT - (min(value / most, 1.0) if most else 0.0) * (HEIGHT - 4) - 2
        words.append(f"{'L' if is_open else f'M{x:.1f} {y:.1f}L'}{x:.1f} {y:.1f}")
        is_open = True
    return "".join(words)


def _words(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    number = f"{value:.0f}" if value >= 10 or unit == "%" else f"{value:.2g}"
    return f"{number} {unit}".strip()
