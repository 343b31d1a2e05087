"""Where the key-encryption keys live (``KEY_PROVIDER``): the environment, a file, or HashiCorp Vault.

One of them wraps. What another one wrapped is still opened while its settings are there: so an installation moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from django.conf import settings

from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.key_providers.base import KeyProvider, KeysUnavailable, Wrapped
from clawdbot_site.security.key_providers.local import EnvironmentKeys, FileKeys
from clawdbot_site.security.key_providers.vault import VaultKeys
from clawdbot_site.security.key_providers.vault_http import VaultPlace, patiently

__all__ = ["KeyProvider", "KeysUnavailable", "Wrapped", "known_ids", "patiently", "problem", "unwrap", "wrapping"]


def _vault() -> KeyProvider:
    return _vault_at(VaultPlace(**settings.VAULT))


@lru_cache(maxsize=4)
def _vault_at(place: VaultPlace) -> KeyProvider:
    """One for the life of the process: it keeps its connection and its token."""
    return VaultKeys(place)


PROVIDERS: Final[dict[str, Callable[[], KeyProvider]]] = {"env": EnvironmentKeys, "file": FileKeys, "vault": _vault}


def wrapping() -> KeyProvider:
    """The one that wraps. Raises KeysUnavailable for a name that we do not have."""
    name = settings.KEY_PROVIDER
    if name not in PROVIDERS:
        raise KeysUnavailable(f"KEY_PROVIDER={name} is not supported. Use one of: {', '.join(PROVIDERS)}.")
    return PROVIDERS[name]()


def unwrap(wrapped: Wrapped, label: bytes) -> bytes:
    """Raises KeysUnavailable, and DecryptionError where no key that is there opens it."""
    for provider in opening():
        if provider.takes(wrapped):
            try:
                return provider.unwrap(wrapped, label)
            except DecryptionError:
                continue
    raise DecryptionError


def opening() -> Iterator[KeyProvider]:
    """The one that wraps, then the others whose settings are there. Raises KeysUnavailable."""
    yield wrapping()
    others = {"env": settings.FIELD_ENCRYPTION_KEYS, "vault": settings.VAULT["address"]}
    yield from (PROVIDERS[name]() for name, is_set in others.items() if is_set and name != settings.KEY_PROVIDER)


def known_ids() -> set[str]:
    """Of every key-encryption key that can be asked for. Raises KeysUnavailable."""
    return {key_id for provider in opening() for key_id in provider.wrapping_keys()}


def problem() -> str:
    """What is wrong with the settings, in words, or an empty string. Calls nobody: for the system check."""
    try:
        provider = wrapping()
        if not isinstance(provider, VaultKeys):
            provider.wrapping_keys()
    except KeysUnavailable as error:
        return str(error)
    return ""
