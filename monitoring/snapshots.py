"""What a row looked like, fit for the audit log: JSON values, secrets as a keyed digest, never the secret.

The digest shows that a secret changed, or changed back, and tells nothing without the site's SECRET_KEY.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_str

from monitoring.text import SECRET_NAME, printable, storable

EMPTY: Final[tuple[Any, ...]] = ("", None, [], {})
LONGEST_VALUE: Final = 4000  # characters of one value that an entry keeps


def snapshot(instance: models.Model, *, many_to_many: bool = False) -> dict[str, Any]:
    """Return the row's fields as JSON values, by name, without the times that Django sets by itself.

    ``many_to_many`` adds those relations as sorted texts, one query each.
    """
    fields = [field for field in instance._meta.concrete_fields if not _is_automatic(field)]
    values = {field.name: _field_value(field, instance) for field in fields}
    if many_to_many:
        values |= {field.name: _related(instance, field.name) for field in instance._meta.many_to_many}
    return values


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``{field: {"before": x, "after": y}}`` of what differs; a missing field counts as None.

    Fields that start or end empty together with their row are left out.
    """
    names = [*before, *(name for name in after if name not in before)]
    changed = [name for name in names if before.get(name) != after.get(name)]
    pairs = {name: {"before": before.get(name), "after": after.get(name)} for name in changed}
    return {name: pair for name, pair in pairs.items() if any(value not in EMPTY for value in pair.values())}


def is_secret(field: models.Field[Any, Any]) -> bool:
    """A field is secret when it says so (``is_secret = True``), or is text and bears a secret's name."""
    if getattr(field, "is_secret", False):
        return True
    is_text = isinstance(field, models.CharField | models.TextField | models.BinaryField)
    return is_text and not field.is_relation and bool(SECRET_NAME.search(field.name))


def digest(value: Any) -> str:
    """Return a short keyed digest of a secret, "" of an empty one."""
    if value in (None, "", b""):
        return ""
    is_binary = isinstance(value, bytes | bytearray | memoryview)
    raw = bytes(value) if is_binary else force_str(value).encode("utf-8", "surrogatepass")
    return "hmac:" + salted_hmac("monitoring.snapshots", raw, algorithm="sha256").hexdigest()[:16]


def clean(value: Any) -> Any:
    """Return ``value`` as JSON for every database: secrets masked by name, long texts cut, odd types as text."""
    if isinstance(value, Mapping):
        return {printable(str(key)): _entry(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):  # what PostgreSQL's JSON would give back in another form is text
        return value + 0.0 if 1e-5 <= abs(value) < 1e15 or value == 0 else str(value)
    return _cut(storable(value if isinstance(value, str) else _text(value)))


def _entry(name: str, item: Any) -> Any:
    is_pair = isinstance(item, Mapping) and set(item) <= {"before", "after"}
    if not SECRET_NAME.search(name) or isinstance(item, bool | int | float | None):
        return clean(item)
    if is_pair:
        return {side: _masked(value) for side, value in item.items()}
    return _masked(item)


def _masked(value: Any) -> Any:
    if value in (None, "") or isinstance(value, bool | int | float):
        return value
    return value if isinstance(value, str) and value.startswith("hmac:") and len(value) == 21 else "***"


def _field_value(field: models.Field[Any, Any], instance: models.Model) -> Any:
    if is_secret(field):
        return _secret_value(field, instance)
    value = field.value_from_object(instance)
    return digest(value) if isinstance(field, models.BinaryField) else clean(value)


def _secret_value(field: models.Field[Any, Any], instance: models.Model) -> str:
    try:
        return digest(field.value_from_object(instance))
    except Exception:  # noqa: BLE001  (a secret that cannot be opened any more must stay replaceable)
        return "unreadable"


def _is_automatic(field: models.Field[Any, Any]) -> bool:
    return bool(getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False))


def _related(instance: models.Model, name: str) -> list[str]:
    return sorted(printable(str(one), 200) for one in getattr(instance, name).all())


def _text(value: Any) -> str:
    """Dates, decimals and UUIDs as JSON has them, anything else by its own text."""
    try:
        return cast(str, DjangoJSONEncoder().default(value))
    except TypeError:
        return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"
