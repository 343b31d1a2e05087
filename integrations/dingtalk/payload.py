"""Reading what DingTalk sends without trusting a single type. Pure; knows no field's meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from integrations.errors import PayloadError

Json = Mapping[str, Any]

MAX_DEPTH = 32
MAX_ID_CHARS = 256
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL refuses NUL, UTF-8 refuses lone surrogates


def strict_object(body: bytes) -> dict[str, Any]:
    """Exactly one JSON object in UTF-8, without NaN, at most MAX_DEPTH deep. Raises PayloadError."""
    try:
        payload = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise PayloadError("the body is not JSON") from problem
    if not isinstance(payload, dict):
        raise PayloadError("the body is not a JSON object")
    if _is_deeper(payload, MAX_DEPTH):
        raise PayloadError("the JSON is nested too deep")
    return payload


def as_object(value: Any) -> Json:
    """An object, also one that DingTalk sent as a JSON string; else an empty one."""
    if isinstance(value, str):
        try:
            value = strict_object(value.encode("utf-8", "replace"))
        except PayloadError:
            return {}
    return value if isinstance(value, dict) else {}


def as_text(value: Any) -> str:
    return _UNSTORABLE.sub("", value) if isinstance(value, str) else ""


def as_id(payload: Json, name: str) -> str:
    """Empty where there is none. Raises PayloadError for what can be no id."""
    value = payload.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS:
        raise PayloadError(f"{name} is no id")
    return as_text(value)


def as_name(payload: Json, name: str) -> str:
    """An id that nothing depends on: empty for what can be none."""
    value = as_text(payload.get(name))
    return value if len(value) <= MAX_ID_CHARS else ""


def missing(names: str) -> NoReturn:
    raise PayloadError(f"the message has no {names}")


def epoch_s(value: Any) -> float:
    """Milliseconds, as number or text, to seconds; 0 for anything else."""
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}", str(value)):
        return 0.0
    return int(value) / 1000


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    nodes = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in nodes if isinstance(child, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
