"""Keys that the audit log needs and that live above it: the app that keeps keys lends them when it starts.

``monitoring`` imports no other app; ``clawdbot_site.security`` registers its key ring here in ``AppConfig.ready``.
"""

from __future__ import annotations

from typing import Protocol


class Vault(Protocol):
    """What the key ring can do for the log."""

    def derived_key(self, use: str) -> bytes:
        """32 bytes for one use, the same for the life of the installation."""
        ...

    def seal(self, text: str, aad: bytes) -> bytes:
        """Encrypt under the present data key."""
        ...

    def unseal(self, sealed: bytes, aad: bytes) -> str:
        """Raises an error when it was altered or sealed for something else."""
        ...

    def is_stale(self, sealed: bytes) -> bool:
        """Whether another data key has become the present one since."""
        ...


class NoVault(RuntimeError):
    """No app has lent its keys; the installation is not complete."""


_vault: Vault | None = None


def register(vault: Vault) -> None:
    global _vault
    _vault = vault


def vault() -> Vault:
    """Raises NoVault."""
    if _vault is None:
        raise NoVault("The audit log needs clawdbot_site.security in INSTALLED_APPS: it lends the keys.")
    return _vault
