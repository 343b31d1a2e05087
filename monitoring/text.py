"""What text is dangerous to keep: names that tell of a secret, characters that forge lines or break databases."""

from __future__ import annotations

import json
import re
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

# "token" but not "max_tokens"; "url_key" and "key_hash" but not "public_key" or "key_id".
SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|secrets|token|otp|authorization|cookie)(_|$)"
    r"|(^|_)(api|encrypt|encryption|private|access|signing|session|url|secret|hashed)_?key(_|$)"
    r"|^key$|(^|_)key_(hash|digest|material)(_|$)",
    re.IGNORECASE,
)
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL's JSON does not take


def printable(text: str, limit: int | None = None) -> str:
    """Return one line of text: control, direction and surrogate characters escaped, at most ``limit`` characters."""
    return UNPRINTABLE.sub(_escaped, text)[:limit]


def storable(text: str) -> str:
    """Return the text with NUL and lone surrogates escaped; lines stay lines."""
    return UNSTORABLE.sub(_escaped, text)


def json_text(value: Any, **options: Any) -> str:
    """JSON on one line for every reader: what breaks lines or turns directions is escaped inside the texts."""
    text = json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder, **options)
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
