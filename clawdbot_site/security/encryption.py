"""Sealing and opening secrets with AES-256-GCM, and keyed digests of them. Knows no model, no database, no settings.

A sealed value is one byte format version, four bytes key id (big endian), twelve bytes nonce, ciphertext and tag: what
Google's Tink writes under a key with its TINK prefix, so there is a second implementation to test against.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = b"\x01"
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEADER_BYTES: Final = len(VERSION) + KEY_ID_BYTES
FINGERPRINT_CHARACTERS: Final = 12


class DecryptionError(Exception):
    """A sealed value could not be opened. One error for every cause, so that it tells an attacker nothing."""

    def __init__(self) -> None:
        super().__init__("This secret cannot be decrypted: another row's, altered, or sealed by a key that is gone.")


class NonceRepeated(RuntimeError):
    """The system's random source repeats itself. Sealing on would give the key away, so nothing is sealed."""


class NonceSource:
    """Fresh 96-bit nonces; refuses a source that repeats one of its last few."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._recent: deque[bytes] = deque(maxlen=64)
        self._lock = threading.Lock()

    def fresh(self) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        with self._lock:
            if len(nonce) != NONCE_BYTES or nonce in self._recent:
                raise NonceRepeated("The system's random source gave the same nonce twice; nothing was encrypted.")
            self._recent.append(nonce)
        return nonce


_nonces = NonceSource()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by their ids: one seals, all open. Immutable; a rotation makes another ring."""

    primary_id: int
    keys: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.primary_id not in self.keys or any(len(key) != KEY_BYTES for key in self.keys.values()):
            raise ValueError("A key ring needs its primary key, and 32 bytes in each key.")

    def seal(self, plaintext: str, aad: bytes) -> bytes:
        """Encrypt under the primary key, bound to ``aad``. Raises ValueError for text that UTF-8 cannot hold."""
        try:
            data = plaintext.encode()
        except UnicodeEncodeError:  # its own message would quote the secret
            raise ValueError("A secret must be valid Unicode text.") from None
        return self.seal_bytes(data, aad)

    def open(self, sealed: bytes, aad: bytes) -> str:
        """Return the text. Raises DecryptionError, whatever is wrong."""
        try:
            return self.open_bytes(sealed, aad).decode()
        except UnicodeDecodeError:
            raise DecryptionError from None

    def seal_bytes(self, data: bytes, aad: bytes) -> bytes:
        nonce = _nonces.fresh()
        return key_prefix(self.primary_id) + nonce + AESGCM(self.keys[self.primary_id]).encrypt(nonce, data, aad)

    def open_bytes(self, sealed: bytes, aad: bytes) -> bytes:
        key = self.keys.get(key_id_of(sealed))
        if key is None:
            raise DecryptionError
        nonce, body = sealed[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES], sealed[HEADER_BYTES + NONCE_BYTES :]
        try:
            return AESGCM(key).decrypt(nonce, body, aad)
        except InvalidTag:
            raise DecryptionError from None


def key_prefix(key_id: int) -> bytes:
    """The first bytes of everything that this key sealed."""
    return VERSION + key_id.to_bytes(KEY_ID_BYTES, "big")


def key_id_of(sealed: bytes) -> int:
    """Read the key id. Raises DecryptionError for an unknown version and for what is too short to hold a tag."""
    if len(sealed) < HEADER_BYTES + NONCE_BYTES + TAG_BYTES or sealed[: len(VERSION)] != VERSION:
        raise DecryptionError
    return int.from_bytes(sealed[len(VERSION) : HEADER_BYTES], "big")


def new_key_id() -> int:
    return secrets.randbelow(2**32 - 1) + 1


def associated_data(app_label: str, model: str, column: str, pk: UUID) -> bytes:
    """Name one place in the database, unambiguously: each part is preceded by its length. Rule E3."""
    parts = (b"clawdbot field", app_label.encode(), model.encode(), column.encode(), pk.bytes)
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


# -- key-encryption keys: outside the database, they wrap the data keys that lie in it --


def decode_key(text: str) -> bytes:
    """Read a key of 32 bytes in base64 or base64url, padded or not. Raises ValueError, without quoting it."""
    try:
        plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
        key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ValueError("it is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"it has {len(key)} bytes instead of {KEY_BYTES}")
    if len(set(key)) < KEY_BYTES // 4:
        raise ValueError("it is not random")
    return key


def wrapping_ring(keys: list[str]) -> KeyRing:
    """Key-encryption keys, newest first, as a ring: the newest wraps, all unwrap. Raises ValueError."""
    by_id = {wrapping_key_id(key): key for key in map(decode_key, keys)}
    if not by_id:
        raise ValueError("there is none")
    return KeyRing(next(iter(by_id)), by_id)


def wrapping_key_id(key: bytes) -> int:
    """A short hash; of 32 random bytes it gives nothing away."""
    return int.from_bytes(hashlib.sha256(b"clawdbot wrapping key id\0" + key).digest()[:KEY_ID_BYTES], "big")


def wrapping_label(key_id: int, purpose: str) -> bytes:
    """Names one data key: what is wrapped is bound to it."""
    return b"clawdbot data key\0" + key_id.to_bytes(KEY_ID_BYTES, "big") + purpose.encode()


# -- digests: what may be shown or searched in place of a secret --


@dataclass(frozen=True, slots=True)
class Digests:
    """HMAC-SHA256 under a key that never rotates: a stored digest stays good. Each use has a domain of its own."""

    key: bytes = field(repr=False)

    def fingerprint(self, secret: str) -> str:
        """Twelve hex characters by which an admin recognises a secret; empty for an empty one."""
        return self._digest("fingerprint", secret)[:FINGERPRINT_CHARACTERS] if secret else ""

    def lookup_hash(self, value: str) -> str:
        """64 hex characters by which a row is found, without its secret (a URL key) in the index."""
        return self._digest("lookup", value)

    def derived_key(self, use: str) -> bytes:
        """32 bytes for one use of another app."""
        return hmac.digest(self.key, b"derive\0" + use.encode(), "sha256")

    def _digest(self, domain: str, text: str) -> str:
        message = domain.encode() + b"\0" + text.encode(errors="surrogatepass")
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()
