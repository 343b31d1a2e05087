"""Takes personal data out of log lines: phone numbers, e-mail addresses, ID numbers, bank cards.

A net below the rule that nobody logs what people say: an error of a library or a platform may quote it. Shapes and
check digits only; a name or a street is not recognised.
"""

from __future__ import annotations

import re
from typing import Final

_NOT_INSIDE: Final = r"(?<![\w./#-])"
_NOTHING_BEHIND: Final = r"(?![\w-])"
_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}")
_ID_NUMBER: Final = re.compile(
    rf"{_NOT_INSIDE}[1-9]\d{{5}}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{{3}}[\dXx]{_NOTHING_BEHIND}",
    re.ASCII,
)
_CARD: Final = re.compile(rf"{_NOT_INSIDE}\d(?:[ -]?\d){{14,18}}{_NOTHING_BEHIND}", re.ASCII)
_PHONE: Final = re.compile(
    rf"{_NOT_INSIDE}(?:(?:\+|00)?86[ -]?)?1[3-9]\d[ -]?\d{{4}}[ -]?\d{{4}}{_NOTHING_BEHIND}"  # mobile, mainland
    rf"|{_NOT_INSIDE}0\d{{2,3}}-\d{{7,8}}{_NOTHING_BEHIND}"
    rf"|(?<![\w.])\+[1-9]\d{{0,2}}(?:[ -]?\d){{7,12}}{_NOTHING_BEHIND}",
    re.ASCII,
)


def mask(text: str) -> str:
    """The text with the kind of each in its place. Chinese right beside a number hides it from nobody."""
    if "@" in text:
        text = _EMAIL.sub("[e-mail]", text)
    if not any(sign.isdigit() for sign in text):
        return text
    text = _ID_NUMBER.sub("[id number]", text)
    text = _CARD.sub(lambda found: "[bank card]" if _is_card(found[0]) else found[0], text)
    return _PHONE.sub("[phone]", text)


def _is_card(written: str) -> bool:
    """By the check digit (Luhn): other long numbers are left alone."""
    digits = [int(sign) for sign in reversed(written) if sign.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[0::2]) + sum(doubled)) % 10 == 0
