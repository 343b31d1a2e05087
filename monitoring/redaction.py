"""Takes secrets out of text on its way to a log: tokens, keys, passwords in addresses, webhook keys.

A net below the rule that nobody logs secrets in the first place. Knows shapes only, no real secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from monitoring.text import SECRET_NAME, printable

MASK: Final = "***"
LONGEST_TEXT: Final = 20_000  # characters
DEEPEST: Final = 5

_NAMES: Final = (
    r"[\w-]{0,40}(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|encrypt[_-]?key|private[_-]?key"
    r"|url[_-]?key|signature|authorization|cookie|ticket|session[_-]?webhook|sessionid)"
)
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # /webhooks/<platform>/<key>/, /api/v1/hooks/<key>/, custom bots' /bot/v2/hook/<token>
        (r"(/webhooks/[\w-]{1,40}/)[^/\s\"'?#<>]+", rf"\1{MASK}"),
        (r"(/hooks?/)[^/\s\"'?#<>]+", rf"\1{MASK}"),
        (r"\b(bearer|api-key|basic)(\s+|%20)[\w.~+/=-]{8,}", rf"\1 {MASK}"),
        (r"(://[^/\s:@\"']{0,100}:)[^/\s@\"']{1,200}@", rf"\1{MASK}@"),
        # query parameters, whose names may be short
        (r"([?&](?:key|sign|code|state|session|sig|auth|access_token|app_?key|ticket)=)[^&\s\"'#]+", rf"\1{MASK}"),
        # name=value, name: value, "name": "value"
        (rf"(\b{_NAMES}[\"']?\s{{0,3}}[=:]\s{{0,3}}[bru]?)(\"[^\"]*\"|'[^']*'|[^\s&,;\"'}})\]]+)", rf"\1{MASK}"),
        # keys and tokens that tell themselves: OpenAI, JWT, our API keys, Feishu tokens
        (r"\bsk-[\w-]{8,}", MASK),
        (r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?", MASK),
        (r"\b(\w{8})\.[A-Za-z0-9]{32,}\b", rf"\1.{MASK}"),
        (r"\b[tuag]-[\w.-]{20,}", MASK),
    )
)


def redact(text: str) -> str:
    """Return the text without what looks like a secret; very long ones are cut."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact_value(name: str, value: Any, depth: int = 0) -> Any:
    """Redact a log field: its name may tell that it is secret. Control characters are escaped, odd types made text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if SECRET_NAME.search(name) and value:
        return MASK
    if depth < DEEPEST and isinstance(value, Mapping):
        return {printable(str(key)): redact_value(str(key), item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [redact_value("", item, depth + 1) for item in value]
    return printable(redact(_text(value)))


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  (logging must not fail on a broken __str__)
        return f"<{type(value).__name__}: {type(error).__name__}>"
