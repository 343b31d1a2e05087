"""What an admin may enter as the keys of the event settings. Pure. Source: PROTOCOL.md, "Events over HTTP"."""

from __future__ import annotations

import re
from typing import Final

from django.utils.translation import gettext as _

TOKEN: Final = re.compile(r"[A-Za-z0-9]{3,32}")
AES_KEY: Final = re.compile(r"[A-Za-z0-9]{43}")


def faults(token: str, aes_key: str, *, has_token: bool, has_aes_key: bool) -> dict[str, str]:
    """What is wrong, by field. ``token`` and ``aes_key``: as entered; ``has_...``: whether there will be one."""
    found: dict[str, str] = {}
    if token and not TOKEN.fullmatch(token):
        found["verification_token"] = _("The token of DingTalk's event settings has 3 to 32 letters and digits.")
    if aes_key and not AES_KEY.fullmatch(aes_key):
        found["encrypt_key"] = _("The AES key of DingTalk's event settings has exactly 43 letters and digits.")
    if has_token != has_aes_key:
        lacking = "encrypt_key" if has_token else "verification_token"
        found.setdefault(lacking, _("Events need both: the token and the AES key of DingTalk's event settings."))
    return found
