"""What an admin may enter as the keys of the event settings. Pure. Source: PROTOCOL.md, "Events over HTTP"."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from django.utils.translation import gettext as _

FIELDS: Final = ("verification_token", "encrypt_key")
TOKEN: Final = re.compile(r"[A-Za-z0-9]{3,32}")
AES_KEY: Final = re.compile(r"[A-Za-z0-9]{43}")


def faults(entered: Mapping[str, str], held: Collection[str]) -> dict[str, str]:
    """What is wrong with token and AES key, by field of the credential."""
    found: dict[str, str] = {}
    token, aes_key = entered.get("verification_token", ""), entered.get("encrypt_key", "")
    if token and not TOKEN.fullmatch(token):
        found["verification_token"] = _("The token of DingTalk's event settings has 3 to 32 letters and digits.")
    if aes_key and not AES_KEY.fullmatch(aes_key):
        found["encrypt_key"] = _("The AES key of DingTalk's event settings has exactly 43 letters and digits.")
    lacking = [name for name in FIELDS if name not in held]
    if len(lacking) == 1:
        found.setdefault(lacking[0], _("Events need both: the token and the AES key of DingTalk's event settings."))
    return found
