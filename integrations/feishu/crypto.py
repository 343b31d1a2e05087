"""Feishu's callback cryptography: opening and sealing a body, the event signature, how old a callback may be.

Pure: knows no request, no credential, no JSON.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from django.utils.crypto import constant_time_compare

BLOCK_BYTES = 16
MAX_AGE_S = 8 * 3600  # the platform's last retry comes after about 7 h 05 min
MAX_AHEAD_S = 300

_TIMESTAMP = re.compile(r"[0-9]{10}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


def decrypt(sealed: str, encrypt_key: str) -> bytes:
    """Open the ``encrypt`` value of a callback; ValueError for everything that is not AES with strict PKCS#7.

    Success authenticates nothing: CBC is malleable. Source: PROTOCOL.md, "Encryption".
    """
    raw = base64.b64decode(sealed, validate=True)
    if len(raw) < 2 * BLOCK_BYTES or len(raw) % BLOCK_BYTES:
        raise ValueError("not a sealed body")
    cipher = _cipher(encrypt_key, raw[:BLOCK_BYTES]).decryptor()
    unpadder = padding.PKCS7(8 * BLOCK_BYTES).unpadder()
    return unpadder.update(cipher.update(raw[BLOCK_BYTES:]) + cipher.finalize()) + unpadder.finalize()


def encrypt(plaintext: bytes, encrypt_key: str, iv: bytes | None = None) -> str:
    """Seal a body as the platform does, for tests and the simulator. Without ``iv`` a random one is drawn."""
    iv = iv or os.urandom(BLOCK_BYTES)
    cipher = _cipher(encrypt_key, iv).encryptor()
    padder = padding.PKCS7(8 * BLOCK_BYTES).padder()
    padded = padder.update(plaintext) + padder.finalize()
    return base64.b64encode(iv + cipher.update(padded) + cipher.finalize()).decode()


def event_signature(timestamp: str, nonce: str, encrypt_key: str, body: bytes) -> str:
    """Return the lower-case hex SHA-256 that Feishu sends in ``X-Lark-Signature``; not an HMAC, no separators.

    ``body`` is exactly what was received. Source: PROTOCOL.md, "Event signature".
    """
    start = (timestamp + nonce + encrypt_key).encode("utf-8", "surrogatepass")
    return hashlib.sha256(start + body).hexdigest()


def is_signed(timestamp: str, nonce: str, signature: str, encrypt_key: str, body: bytes) -> bool:
    """Whether the three headers prove that ``body`` comes from who knows the key. An empty key proves nothing.

    Ten digits and a nonce are required because digits may be moved between the two without changing the sum.
    """
    if not (encrypt_key and nonce and _TIMESTAMP.fullmatch(timestamp) and _SIGNATURE.fullmatch(signature)):
        return False
    return constant_time_compare(event_signature(timestamp, nonce, encrypt_key, body), signature)


def is_fresh(timestamp: str, now_s: float) -> bool:
    """Whether a signed timestamp (Unix seconds) lies between 8 hours ago and 5 minutes ahead."""
    return -MAX_AHEAD_S <= now_s - int(timestamp) <= MAX_AGE_S


def _cipher(encrypt_key: str, iv: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(hashlib.sha256(encrypt_key.encode()).digest()), modes.CBC(iv))
