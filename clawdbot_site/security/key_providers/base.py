"""What a place for key-encryption keys must be able to do. Knows no database and no setting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from django.core.exceptions import ImproperlyConfigured


class KeysUnavailable(ImproperlyConfigured):
    """The key-encryption keys that are needed are not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key as the database holds it, and the id of the key-encryption key that wrapped it."""

    data: bytes = field(repr=False)
    kek_id: str


class KeyProvider(ABC):
    """Wraps and opens data keys. ``label`` names the data key: what was wrapped for one opens for no other.

    All methods raise KeysUnavailable.
    """

    @abstractmethod
    def takes(self, wrapped: Wrapped) -> bool:
        """Whether this looks like something that the provider wrapped; makes no call."""

    @abstractmethod
    def wrapping_keys(self) -> list[str]:
        """Ids of the key-encryption keys, newest first: the first one wraps, all open."""

    @abstractmethod
    def wrap(self, key: bytes, label: bytes) -> Wrapped: ...

    @abstractmethod
    def unwrap(self, wrapped: Wrapped, label: bytes) -> bytes:
        """Raises DecryptionError too, for what the keys that are there do not open."""

    def rewrap(self, wrapped: Wrapped, label: bytes) -> Wrapped:
        """The same data key under the newest key-encryption key."""
        return self.wrap(self.unwrap(wrapped, label), label)

    def stay_signed_in(self) -> None:  # noqa: B027  (most have nobody to sign in to)
        """Called by the scheduler now and then: prolong what gives access to the keys."""
