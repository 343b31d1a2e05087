"""The keys that a backup needs and must not hold: SECRET_KEY and the key-encryption keys, as files in another place."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.conf import settings

from clawdbot_site.security import encryption, key_providers
from clawdbot_site.security.key_providers import KeysUnavailable
from clawdbot_site.security.key_providers.local import LocalKeys, name_of
from clawdbot_site.security.models.keys import DataKey
from monitoring.backups.database import BackupError

# As the embedded mode names them in its data folder.
SECRET_KEY: Final = "secret-key"  # noqa: S105  (a file's name)
ENCRYPTION_KEYS: Final = "field-encryption-keys"


@dataclass(frozen=True, slots=True)
class Keys:
    secret_key: str = field(repr=False)
    encryption_keys: list[str] = field(repr=False)


def wrapping_key_ids() -> list[str]:
    """Ids of the key-encryption keys that the data keys in the database are wrapped by."""
    return sorted(set(DataKey.objects.values_list("kek_id", flat=True)))


def write(folder: Path) -> Path:
    """Keys that a Vault keeps stay there: then only SECRET_KEY is written. Raises BackupError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(folder / SECRET_KEY, settings.SECRET_KEY)
        if keys := _encryption_keys():
            _write(folder / ENCRYPTION_KEYS, ",".join(keys))
    except OSError as error:
        raise BackupError(f"{folder} cannot be written ({error.strerror}).") from None
    return folder


def read(folder: Path) -> Keys:
    """Raises BackupError."""
    try:
        texts = [(folder / name).read_text("utf-8").strip() for name in (SECRET_KEY, ENCRYPTION_KEYS)]
    except OSError as error:
        raise BackupError(f"{folder} holds no keys ({error.strerror}: {SECRET_KEY}, {ENCRYPTION_KEYS}).") from None
    return Keys(texts[0], texts[1].split(","))


def _encryption_keys() -> list[str]:
    """Raises BackupError."""
    provider = key_providers.wrapping()
    try:
        return provider.texts() if isinstance(provider, LocalKeys) else []
    except KeysUnavailable as error:
        raise BackupError(str(error)) from None


def must_open(wrapping_keys: list[str], keys: Keys | None) -> None:
    """Whether these keys, or those of the settings, open what was wrapped by ``wrapping_keys``. Raises BackupError."""
    try:
        known = _ids(keys.encryption_keys) if keys else key_providers.known_ids()
    except (ValueError, KeysUnavailable) as error:
        raise BackupError(f"The key-encryption keys are not usable: {error}") from None
    missing = sorted(set(wrapping_keys) - known)
    if missing:
        where = "the folder of --keys-from" if keys else "FIELD_ENCRYPTION_KEYS (embedded: give --keys-from FOLDER)"
        raise BackupError(f"The backup needs the key-encryption key {', '.join(missing)}, which is not in {where}.")


def _ids(keys: list[str]) -> set[str]:
    return {name_of(key_id) for key_id in encryption.wrapping_ring(keys).keys}


def put_in_place(keys: Keys) -> None:
    """Make them the embedded mode's own; elsewhere the environment gives them, and nothing is written."""
    if settings.EMBEDDED:
        _write(Path(settings.DATA_DIR) / SECRET_KEY, keys.secret_key)
        _write(Path(settings.DATA_DIR) / ENCRYPTION_KEYS, ",".join(keys.encryption_keys))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    partial.replace(path)
