"""A new key for checkpoints: whoever has the fingerprint of any of them follows to the others, and to no forged one."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.utils import timezone

from monitoring import audit, folders, handover, retention, sealer, signing, sinks, verifier, verifying
from monitoring.models import AuditCheckpoint, AuditKey, AuditLog
from tests.monitoring.tamper.attacker import run_verifier, write
from tests.monitoring.tamper.conftest import copies as copies  # the sink, out of everybody's reach

pytestmark = [pytest.mark.django_db, pytest.mark.rule("U6", "U7")]


def fingerprints_after(handovers: int) -> list[str]:
    """Of the keys, oldest first; each has signed something."""
    write(2)
    found = [signing.signer().fingerprint]
    for _ in range(handovers):
        handover.hand_over()
        write(2)
        found.append(signing.signer().fingerprint)
    return found


def key_file(folder: Path, **changed: Any) -> None:
    path = folder / "key.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_the_site_verifies_across_keys_and_knows_each_fingerprint() -> None:
    keys = fingerprints_after(2)

    assert len(set(keys)) == 3
    for fingerprint in keys:
        report = verifying.verify(fingerprint=fingerprint)
        assert (report.is_good, report.fingerprint) == (True, keys[-1])
    with pytest.raises(verifying.WrongKey):
        verifying.verify(fingerprint="00" * 32)


def test_an_auditor_follows_from_the_pinned_fingerprint_forwards_and_back(tmp_path: Path) -> None:
    keys = fingerprints_after(2)
    folders.write(tmp_path / "export", "jsonl")

    for fingerprint in keys:
        code, said = run_verifier(tmp_path / "export", fingerprint=fingerprint)
        assert (code, said[:4]) == (0, "OK: "), said


def test_the_old_private_key_is_gone_and_its_turn_is_over(tmp_path: Path) -> None:
    """A thief of the old key could else go on signing."""
    write(2)
    old = signing.signer()
    handover.hand_over()
    write(1)
    assert [bytes(row.private) for row in AuditKey.objects.filter(is_current=False)] == [b""]

    last = AuditCheckpoint.objects.latest("number")
    statement = {**json.loads(last.statement), "number": last.number + 1, "key": old.fingerprint}
    text = verifier.statement_text(statement)
    copy = {"statement": text, "signature": old.sign(text)}
    report = verifying.verify(copies=[("stolen", [copy])])

    assert f"stolen: the signature of checkpoint {last.number + 1} is wrong" in [one.text for one in report.problems]


def test_the_handover_outlives_a_purge(tmp_path: Path) -> None:
    AuditLog(action="bot.changed", actor_kind="system", created_at=timezone.now() - timedelta(days=500)).save()
    pinned = fingerprints_after(1)[0]
    audit.record("bot.changed")
    retention.purge(timezone.now() + timedelta(days=1))
    write(1)
    folders.write(tmp_path / "export", "jsonl")

    assert not any("next_public" in text for text in AuditCheckpoint.objects.values_list("statement", flat=True))
    assert verifying.verify(fingerprint=pinned).is_good
    assert run_verifier(tmp_path / "export", fingerprint=pinned)[0] == 0


def forged_export(folder: Path, how: str) -> str:
    """An export in which somebody's own key has taken over; returns the pinned fingerprint."""
    pinned = fingerprints_after(1)[0]
    folders.write(folder, "jsonl")
    held = json.loads((folder / "key.json").read_text())
    (given,) = held["handovers"]
    turn, thief = json.loads(given["statement"]), signing.Signer(Ed25519PrivateKey.generate())
    if how == "no handover":
        key_file(folder, public=thief.public.hex(), handovers=[])
        return pinned
    if how == "handover of another":
        key_file(folder, public=thief.public.hex())
        return pinned
    if how == "earlier turn":
        turn["number"] = 1
    else:
        turn |= {"next_public": thief.public.hex(), "next_key": thief.fingerprint}
        turn["next_signature"] = thief.sign(verifier.agreement_text(turn))
        key_file(folder, public=thief.public.hex())
    text = verifier.statement_text(turn)
    signature = thief.sign(text) if how == "signed by the new key alone" else given["signature"]
    key_file(folder, handovers=[{"statement": text, "signature": signature}])
    return pinned


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no handover", "signed with another key than the one of this fingerprint"),
        ("handover of another", "it does not lead to the present key"),
        ("signature of another statement", "it may be forged"),
        ("signed by the new key alone", "it may be forged"),
        ("earlier turn", "it may be forged"),
    ],
)
def test_a_forged_successor_is_refused(tmp_path: Path, how: str, said: str) -> None:
    pinned = forged_export(tmp_path / "export", how)

    code, text = run_verifier(tmp_path / "export", fingerprint=pinned)

    assert (code, said in text) == (1, True), text


def test_a_handover_without_the_new_keys_agreement_is_refused(tmp_path: Path) -> None:
    """Else somebody who has the old key could claim that another's key belongs to this log."""
    write(1)
    old, other = signing.signer(), signing.Signer(Ed25519PrivateKey.generate())
    turn = {"number": 1, "sequence": 1, "hash": "0" * 64, "public": old.public.hex(), "key": old.fingerprint}
    turn |= {"next_public": other.public.hex(), "next_key": other.fingerprint, "next_signature": "00" * 64}
    text = verifier.statement_text(turn)

    with pytest.raises(ValueError, match="without the signatures of both"):
        verifier.lineage_of(other.public, [{"statement": text, "signature": old.sign(text)}])


def test_an_edited_handover_in_the_database_is_found() -> None:
    fingerprints_after(1)
    AuditKey.objects.filter(is_current=True).update(handover_signature="00" * 64)

    report = verifying.verify()

    assert report.problems[0].text == "A key took over without the signatures of both: it may be forged."


def test_a_line_with_a_gap_is_refused() -> None:
    fingerprints_after(2)
    given = signing.handovers()

    with pytest.raises(ValueError, match="line of signing keys is broken"):
        verifier.lineage_of(signing.signer().public, given[:1])
    with pytest.raises(ValueError, match="line of signing keys is broken"):
        verifier.lineage_of(signing.signer().public, given[::-1])


def test_the_sinks_get_the_handover_as_a_checkpoint(copies: Path) -> None:
    fingerprints_after(1)

    taken = [json.loads(copy["statement"]) for copy in sinks.FileSink(copies, "x").read()]

    assert [one["next_key"] for one in taken if "next_key" in one] == [signing.signer().fingerprint]


def test_it_is_audited_and_done_by_command() -> None:
    out = StringIO()
    with pytest.raises(CommandError, match="Nothing was sealed yet"):
        call_command("audit", "rotate-key", stdout=out)
    write(1)
    old = signing.signer().fingerprint
    call_command("audit", "rotate-key", stdout=out)

    new = signing.signer().fingerprint
    assert f"signed by a new key now: {new}" in out.getvalue()
    assert AuditLog.objects.get(action="auditlog.key_changed").changes == {"fingerprint": {"before": old, "after": new}}


def test_the_scheduler_lets_a_key_of_ninety_days_give_way() -> None:
    write(1)
    assert handover.rotate_if_due(timedelta(days=90)) is None
    AuditKey.objects.update(created_at=timezone.now() - timedelta(days=90))

    assert handover.rotate_if_due(timedelta(days=90)) is not None
    assert handover.rotate_if_due(timedelta(days=90)) is None
    assert sealer.sign() is not None
