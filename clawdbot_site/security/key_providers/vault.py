"""Key-encryption keys that never leave HashiCorp Vault: its transit engine wraps and opens for us.

The plaintext that Vault gets is the data key's label and the key, so that a ciphertext put into another row does not
open: transit's ``associated_data`` would do the same, but cannot be rewrapped.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final
from urllib.parse import quote

from clawdbot_site.security.encryption import KEY_BYTES, DecryptionError
from clawdbot_site.security.key_providers.base import KeyProvider, Wrapped
from clawdbot_site.security.key_providers.vault_http import ADVICE, VaultHttp, VaultPlace, VaultTrouble

CIPHERTEXT: Final = re.compile(r"vault:v(?P<version>[0-9]{1,9}):[A-Za-z0-9+/=]+")
CANNOT_OPEN: Final = 400  # Vault's status for a ciphertext that is not its own


class VaultKeys(KeyProvider):
    """A key-encryption key's id is the transit key's name and version: ``clawdbot:v3``."""

    def __init__(self, place: VaultPlace) -> None:
        self._place, self._vault = place, VaultHttp(place)

    def takes(self, wrapped: Wrapped) -> bool:
        return wrapped.data.startswith(b"vault:v")

    def wrapping_keys(self) -> list[str]:
        found = self._vault.call("GET", self._path("keys", self._place.key))
        oldest = int(found.get("min_decryption_version") or 1)
        versions = sorted((int(one) for one in found.get("keys") or {}), reverse=True)
        return [f"{self._place.key}:v{version}" for version in versions if version >= oldest]

    def wrap(self, key: bytes, label: bytes) -> Wrapped:
        plaintext = base64.b64encode(label + key).decode()
        return self._transform("encrypt", self._place.key, plaintext=plaintext)

    def unwrap(self, wrapped: Wrapped, label: bytes) -> bytes:
        name, ciphertext = _key_name(wrapped), _text(wrapped)
        try:
            found = self._vault.call("POST", self._path("decrypt", name), {"ciphertext": ciphertext})
        except VaultTrouble as trouble:
            if trouble.status == CANNOT_OPEN:
                raise DecryptionError from None
            raise
        return _without_label(found, label)

    def rewrap(self, wrapped: Wrapped, label: bytes) -> Wrapped:
        """Inside Vault, so that the data key does not travel; another key of Vault's needs both ways."""
        if _key_name(wrapped) != self._place.key:
            return super().rewrap(wrapped, label)
        return self._transform("rewrap", self._place.key, ciphertext=_text(wrapped))

    def stay_signed_in(self) -> None:
        self._vault.renew()

    def _transform(self, word: str, key: str, **body: str) -> Wrapped:
        ciphertext = str(self._vault.call("POST", self._path(word, key), body).get("ciphertext") or "")
        found = CIPHERTEXT.fullmatch(ciphertext)
        if found is None:
            raise VaultTrouble(f"What answers at {self._place.address} is no transit engine of Vault. {ADVICE}")
        return Wrapped(ciphertext.encode(), f"{key}:v{found['version']}")

    def _path(self, word: str, key: str) -> str:
        return f"{self._place.mount}/{word}/{quote(key, safe='')}"


def _key_name(wrapped: Wrapped) -> str:
    return wrapped.kek_id.rpartition(":")[0]


def _text(wrapped: Wrapped) -> str:
    return wrapped.data.decode("ascii", "replace")


def _without_label(found: dict[str, Any], label: bytes) -> bytes:
    try:
        opened = base64.b64decode(str(found.get("plaintext") or ""), validate=True)
    except ValueError:
        raise DecryptionError from None
    if not opened.startswith(label) or len(opened) != len(label) + KEY_BYTES:  # the label is no secret
        raise DecryptionError
    return opened[len(label) :]
