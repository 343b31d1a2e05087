"""The Ed25519 key that signs checkpoints: its private half sealed by the key ring, its public half shown.

How one key gives way to the next is in monitoring/handover.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.db import IntegrityError, transaction

from monitoring import vault, verifier
from monitoring.ids import uuid7
from monitoring.models import AuditKey

PURPOSE: Final = b"monitoring.auditkey\0private\0"


@dataclass(frozen=True, slots=True)
class Signer:
    """The opened key. Its public half is computed from the private one: a row that was edited cannot replace it."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def fingerprint(self) -> str:
        return verifier.fingerprint_of(self.public)

    def sign(self, text: str) -> str:
        return self.private.sign(text.encode()).hex()


def signer() -> Signer:
    """The present key; the first call of an installation makes it."""
    row = AuditKey.objects.filter(is_current=True).first() or _make()
    private = vault.vault().unseal(bytes(row.private), _aad(row))
    if vault.vault().is_stale(bytes(row.private)):
        _seal_again(row, private)
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)))


def grouped(fingerprint: str) -> str:
    """For people who compare it by eye."""
    return ":".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def new_key() -> tuple[AuditKey, Signer]:
    """A key and its row, not saved."""
    signer = Signer(Ed25519PrivateKey.generate())
    row = AuditKey(pk=uuid7(), public=signer.public.hex(), fingerprint=signer.fingerprint)
    text = signer.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex()
    row.private = vault.vault().seal(text, _aad(row))
    return row, signer


def made_at() -> datetime | None:
    """When the present key was made; None before the first checkpoint."""
    return AuditKey.objects.filter(is_current=True).values_list("created_at", flat=True).first()


def handovers() -> list[dict[str, str]]:
    """By which statements each key took over from the one before, oldest first; for whoever verifies."""
    rows = AuditKey.objects.exclude(handover="").order_by("created_at", "id")
    return [{"statement": row.handover, "signature": row.handover_signature} for row in rows]


def _make() -> AuditKey:
    row, _signer = new_key()
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:  # another process made it
        return AuditKey.objects.get(is_current=True)
    return row


def _seal_again(row: AuditKey, private: str) -> None:
    """The data key was rotated: follow it, so that the old one can be retired."""
    AuditKey.objects.filter(pk=row.pk).update(private=vault.vault().seal(private, _aad(row)))


def _aad(row: AuditKey) -> bytes:
    return PURPOSE + row.pk.bytes
