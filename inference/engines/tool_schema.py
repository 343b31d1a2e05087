"""Whether a call's arguments fit its tool's JSON schema, as far as a short look tells. Pure.

Looked at are the keywords that models break: ``type``, ``enum``, ``const``, ``required``, ``properties``,
``additionalProperties: false``, ``items``. Schemas come from callers, so what could run long or lead elsewhere
(``pattern``, ``$ref``) is passed over, and so is a schema that is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

DEEPEST: Final = 32
_LONGEST_LIST: Final = 300  # characters

_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or _is_whole(value)),
}


def misfits(value: Any, schema: Any, where: str = "", depth: int = 0) -> Iterator[str]:
    """What is wrong, in words for whoever wrote the value."""
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return
    called = f"`{where}`" if where else "the whole of the arguments"
    kinds = _kinds(schema)
    if kinds and not any(_KINDS[kind](value) for kind in kinds):
        yield f"{called} must be of the type {' or '.join(kinds)}"
        return
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(choices, list) and not any(_are_equal(value, choice) for choice in choices):
        yield f"{called} must be one of {json.dumps(choices, ensure_ascii=False)[:_LONGEST_LIST]}"
    if isinstance(value, dict):
        yield from _in_object(value, schema, where, depth)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from misfits(item, schema.get("items"), f"{where}[{at}]", depth + 1)


def _in_object(value: dict[str, Any], schema: Mapping[str, Any], where: str, depth: int) -> Iterator[str]:
    before = f"{where}." if where else ""
    declared = schema.get("properties")
    declared = declared if isinstance(declared, Mapping) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else []:
        if isinstance(name, str) and name not in value:
            yield f"`{before}{name}` is missing"
    is_closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    for name, inner in value.items():
        if name in declared:
            yield from misfits(inner, declared[name], f"{before}{name}", depth + 1)
        elif is_closed:
            yield f"`{before}{name}` does not exist"


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """The types that are allowed; none where the schema leaves it open, or is not understood."""
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return kinds if all(isinstance(kind, str) and kind in _KINDS for kind in kinds) else []


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _are_equal(value: Any, choice: Any) -> bool:
    """To JSON, true is not 1."""
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)
