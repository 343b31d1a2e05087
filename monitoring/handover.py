"""A new key for signing checkpoints: the old one says in a checkpoint which key takes over, and the new one agrees.

Whoever knows the fingerprint of either can follow from one to the other (``verifier.lineage_of``). The old private
half is erased: it can sign nothing that anybody would believe, since its successor's turn is part of the statement.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from monitoring import audit, sealer, signing, verifier
from monitoring.models import AuditCheckpoint, AuditKey


def rotate_if_due(after: timedelta) -> AuditKey | None:
    """For the scheduler: a key that is so old gives way."""
    made_at = signing.made_at()
    return hand_over() if made_at and timezone.now() - made_at >= after else None


def hand_over() -> AuditKey | None:
    """Let a new key take over now. None while another process signs, and while nothing was sealed yet. Audited."""
    sealer.seal_waiting()
    with transaction.atomic():
        if not sealer.alone():
            return None
        sequence, hash_ = sealer.head()
        if not sequence:
            return None
        old, (new, signer) = signing.signer(), signing.new_key()
        turn = {"public": old.public.hex(), "next_public": new.public, "next_key": new.fingerprint}
        agreed = verifier.agreement_text({"number": _next_number(), "sequence": sequence, "hash": hash_, **turn})
        checkpoint = sealer.checkpoint("seal", sequence, hash_, **turn, next_signature=signer.sign(agreed))
        _replace(new, checkpoint)
        changes = {"fingerprint": {"before": old.fingerprint, "after": new.fingerprint}}
        audit.record("auditlog.key_changed", target_label=signing.grouped(new.fingerprint), changes=changes)
    return new


def _next_number() -> int:
    last = AuditCheckpoint.objects.values_list("number", flat=True).first()
    return (last or 0) + 1


def _replace(new: AuditKey, checkpoint: AuditCheckpoint) -> None:
    AuditKey.objects.filter(is_current=True).update(is_current=False, private=b"")
    new.handover, new.handover_signature = checkpoint.statement, checkpoint.signature
    new.save(force_insert=True)
