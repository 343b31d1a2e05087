"""Reading fields of what came as JSON: any field may be missing or of another type, which is never an error. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integrations.errors import PayloadError

Json = Mapping[str, Any]
_MICROSECOND_DIGITS, _MILLISECOND_DIGITS = 16, 13


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def object_of(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def required(source: Json, name: str) -> str:
    """An id, without which nothing can be done. Raises PayloadError."""
    value = source.get(name)
    if not isinstance(value, str) or not value:
        raise PayloadError(f"the event has no {name}")
    return value


def seconds(stamp: Any) -> float:
    """Decimal text in seconds, milliseconds or microseconds, told apart by its length; 0 where unreadable."""
    text = text_of(stamp)
    if not (text.isascii() and text.isdigit() and len(text) <= _MICROSECOND_DIGITS):
        return 0.0
    digits = len(text)
    return int(text) / (1e6 if digits == _MICROSECOND_DIGITS else 1e3 if digits == _MILLISECOND_DIGITS else 1)
