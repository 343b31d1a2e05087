"""Key-encryption keys that this process holds itself: given in the environment, or read from a file of their own."""

from __future__ import annotations

import os
import stat
from abc import abstractmethod
from pathlib import Path
from typing import Final

from django.conf import settings

from clawdbot_site.security import encryption
from clawdbot_site.security.encryption import KeyRing
from clawdbot_site.security.key_providers.base import KeyProvider, KeysUnavailable, Wrapped

MAKE_ONE: Final = (
    "Make one: python3 -c 'import secrets, base64; print(base64.b64encode(secrets.token_bytes(32)).decode())'"
)
MOST_BYTES: Final = 64 * 1024


class LocalKeys(KeyProvider):
    """AES-256-GCM in this process."""

    where: str  # named in errors

    @abstractmethod
    def texts(self) -> list[str]:
        """The keys in base64, newest first."""

    def takes(self, wrapped: Wrapped) -> bool:
        return wrapped.data.startswith(encryption.VERSION)

    def wrapping_keys(self) -> list[str]:
        return [name_of(key_id) for key_id in self.ring().keys]

    def wrap(self, key: bytes, label: bytes) -> Wrapped:
        ring = self.ring()
        return Wrapped(ring.seal_bytes(key, label), name_of(ring.primary_id))

    def unwrap(self, wrapped: Wrapped, label: bytes) -> bytes:
        return self.ring().open_bytes(wrapped.data, label)

    def ring(self) -> KeyRing:
        try:
            return encryption.wrapping_ring(self.texts())
        except ValueError as error:
            raise KeysUnavailable(f"{self.where} holds no usable key: {error}. {MAKE_ONE}") from None


class EnvironmentKeys(LocalKeys):
    where = "FIELD_ENCRYPTION_KEYS"

    def texts(self) -> list[str]:
        return list(settings.FIELD_ENCRYPTION_KEYS)


class FileKeys(LocalKeys):
    """Read at each need, so that a new key counts without a restart. Separated by commas or lines, newest first."""

    def __init__(self) -> None:
        self.path = Path(settings.FIELD_ENCRYPTION_KEYS_FILE)
        self.where = f"The key file {self.path}"

    def texts(self) -> list[str]:
        lines = self._read().replace(",", "\n").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _read(self) -> str:
        if not self.path.is_absolute():
            raise KeysUnavailable(f"FIELD_ENCRYPTION_KEYS_FILE must be an absolute path, not {str(self.path)!r}.")
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
            with os.fdopen(descriptor, encoding="ascii") as file:
                check_owner(self.path, os.fstat(descriptor))
                return file.read(MOST_BYTES)
        except OSError as error:
            raise KeysUnavailable(f"{self.where} cannot be read ({error.strerror}).") from None
        except UnicodeDecodeError:
            raise KeysUnavailable(f"{self.where} holds no usable key: it is not base64. {MAKE_ONE}") from None


def check_owner(path: Path, found: os.stat_result) -> None:
    """Raises KeysUnavailable for a file that others than its owner and a reading group can read or change."""
    fix = f"Run: chmod 600 {path}"
    if not stat.S_ISREG(found.st_mode):
        raise KeysUnavailable(f"{path} is no file. Give the path of a file in FIELD_ENCRYPTION_KEYS_FILE.")
    if found.st_uid not in (0, os.geteuid()):
        raise KeysUnavailable(f"The key file {path} belongs to another user. It must belong to root or to ClawdBot's.")
    if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        mode = oct(found.st_mode & 0o777).removeprefix("0o")
        raise KeysUnavailable(f"The key file {path} is open to others (mode {mode}). {fix}")


def name_of(key_id: int) -> str:
    return f"{key_id:08x}"
