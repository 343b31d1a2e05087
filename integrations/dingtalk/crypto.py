"""The signatures of DingTalk's callbacks, and the envelope of its events. Pure; knows no body's meaning.

Three kinds of callback, three secrets: robot messages are signed by the app secret, card actions by the secret that
was given when their address was registered, events are sealed by the token and the AES key of the event settings.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from django.utils.crypto import constant_time_compare

from integrations.errors import AuthenticationError

WINDOW_MS = 3_600_000  # either way
BLOCK_BYTES = 32  # of the events' padding
RANDOM_BYTES, LENGTH_BYTES = 16, 4  # before an event's text


def callback_signature(timestamp_ms: str, app_secret: str) -> str:
    """Return the base64 HMAC-SHA256 that DingTalk sends in the ``sign`` header.

    Signed text: timestamp, newline, secret; the body is not covered, so repeats are caught by message id.
    Source: PROTOCOL.md, "Callback signature".
    """
    return _hmac(app_secret, f"{timestamp_ms}\n{app_secret}")


def verify_callback(headers: Mapping[str, str], app_secret: str, now_ms: int) -> None:
    """Check ``timestamp`` and ``sign``, named in lower case. Raises AuthenticationError.

    Source: PROTOCOL.md, "Callback signature".
    """
    timestamp, sign = headers.get("timestamp", "").strip(), headers.get("sign", "").strip()
    if not (timestamp and sign and app_secret):
        raise AuthenticationError("missing header: timestamp and sign are both needed")
    _check_fresh(timestamp, now_ms)
    _check_sign(sign, callback_signature(timestamp, app_secret), "made with another app secret")


def card_secret(app_secret: str) -> str:
    """The secret by which DingTalk signs card actions: ours to choose, so it needs no place to be kept."""
    return hmac.new(app_secret.encode(), b"clawdbot: card callbacks", hashlib.sha256).hexdigest()


def verify_card_callback(headers: Mapping[str, str], api_secret: str, now_ms: int) -> None:
    """Check the two ``x-ddpaas-`` headers of a card action. Raises AuthenticationError.

    Signed text: the timestamp alone. Source: PROTOCOL.md, "Card actions".
    """
    timestamp = headers.get("x-ddpaas-signature-timestamp", "").strip()
    sign = headers.get("x-ddpaas-signature", "").strip()
    if not (timestamp and sign):
        raise AuthenticationError("missing header: both x-ddpaas-signature headers are needed")
    _check_fresh(timestamp, now_ms)
    _check_sign(sign, _hmac(api_secret, timestamp), "made with another card secret")


@dataclass(frozen=True, slots=True)
class EventKeys:
    """What the console's event settings show: token and AES key. ``owners``: whom an event may be for.

    Source: PROTOCOL.md, "Events over HTTP".
    """

    token: str = field(repr=False)
    aes_key: str = field(repr=False)
    owners: tuple[str, ...] = ()

    def open(self, query: Mapping[str, str], encrypted: str) -> bytes:
        """The text of an event. Raises AuthenticationError."""
        timestamp, nonce = _named(query, "timestamp", "timeStamp"), query.get("nonce", "")
        signature = _named(query, "msg_signature", "signature")
        expected = self._signature(timestamp, nonce, encrypted)
        if not (signature.isascii() and constant_time_compare(signature, expected)):
            raise AuthenticationError("signature mismatch: made with another token")
        return self._unpacked(self._decrypted(encrypted))

    def seal(self, text: bytes, timestamp: str, nonce: str = "", random: bytes = b"") -> dict[str, str]:
        """The envelope of an answer; ``nonce`` and ``random`` are drawn unless they are given."""
        nonce, random = nonce or secrets.token_hex(8), random or secrets.token_bytes(RANDOM_BYTES)
        owner = self.owners[0] if self.owners else ""
        packed = random + len(text).to_bytes(LENGTH_BYTES, "big") + text + owner.encode()
        pad = BLOCK_BYTES - len(packed) % BLOCK_BYTES
        sealed = self._cipher().encryptor().update(packed + bytes([pad]) * pad)
        encrypted = base64.b64encode(sealed).decode()
        signature = self._signature(timestamp, nonce, encrypted)
        return {"msg_signature": signature, "timeStamp": timestamp, "nonce": nonce, "encrypt": encrypted}

    def _signature(self, timestamp: str, nonce: str, encrypted: str) -> str:
        text = "".join(sorted([self.token, timestamp, nonce, encrypted]))
        return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()

    def _decrypted(self, encrypted: str) -> bytes:
        try:
            raw = base64.b64decode(encrypted, validate=True)
            packed = self._cipher().decryptor().update(raw)
        except ValueError as problem:
            raise _broken() from problem
        pad = packed[-1] if packed else 0
        if len(raw) % 16 or not 1 <= pad <= BLOCK_BYTES or packed[-pad:] != bytes([pad]) * pad:
            raise _broken()
        return packed[:-pad]

    def _unpacked(self, packed: bytes) -> bytes:
        start = RANDOM_BYTES + LENGTH_BYTES
        end = start + int.from_bytes(packed[RANDOM_BYTES:start], "big")
        if len(packed) < start or end > len(packed):
            raise _broken()
        if packed[end:].decode("utf-8", "replace") not in self.owners:
            raise AuthenticationError("the event is for another app")
        return packed[start:end]

    def _cipher(self) -> Cipher[modes.CBC]:
        """Raises ValueError for a key of a wrong length."""
        key = base64.b64decode(f"{self.aes_key}=", validate=True)
        return Cipher(algorithms.AES256(key), modes.CBC(key[:16]))


def check_event_age(timestamp: str, now_ms: int) -> None:
    """Events carry seconds or milliseconds, both are seen. Raises AuthenticationError."""
    _check_fresh(f"{timestamp}000" if len(timestamp) <= 10 else timestamp, now_ms)


def _check_fresh(timestamp_ms: str, now_ms: int) -> None:
    if not re.fullmatch(r"[0-9]{1,15}", timestamp_ms):
        raise AuthenticationError("bad timestamp: not a number of milliseconds")
    if abs(now_ms - int(timestamp_ms)) > WINDOW_MS:
        raise AuthenticationError("timestamp out of window: more than an hour from this host's clock")


def _check_sign(sign: str, expected: str, otherwise: str) -> None:
    if not (sign.isascii() and constant_time_compare(sign, expected)):
        raise AuthenticationError(f"sign mismatch: {otherwise}")


def _hmac(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


def _named(query: Mapping[str, str], *names: str) -> str:
    return next((query[name] for name in names if query.get(name)), "")


def _broken() -> AuthenticationError:
    return AuthenticationError("decrypt failed: sealed with another AES key, or cut")
