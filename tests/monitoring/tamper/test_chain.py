"""Rule U6: a log that was cut, forked, signed or keyed by somebody else is found, and so are checkpoints that left."""

from __future__ import annotations

import pytest
from django.db import connection

from monitoring import audit, sealer, signing, verifying
from monitoring.models import AuditCheckpoint, AuditLog, AuditWaiting

from .attacker import CHECKPOINTS, LOG, SEALS, chain_anew, cut_after, found, key, owner, write

pytestmark = [pytest.mark.django_db, pytest.mark.rule("U6")]


def test_a_cut_tail_is_found_by_the_copies():
    write(4)
    ids = write(5)
    cut_after(6, ids)

    assert found() == (7, "")


def test_a_cut_tail_is_found_by_the_database_when_the_checkpoint_stayed():
    ids = write(8)
    with owner() as run:
        run(f"DELETE FROM {LOG} WHERE id = %s", key(ids[7]))
        run(f"DELETE FROM {SEALS} WHERE sequence = 8")

    assert found() == (8, "")


def test_a_fork_is_found_when_the_product_went_on_after_a_cut():
    write(4)
    ids = write(5)
    cut_after(4, ids)
    write(7, "another history")

    sequence, _entry = found()
    texts = " ".join(problem.text for problem in verifying.verify().problems)
    assert sequence == 5
    assert "forked" in texts


def test_a_fork_is_found_when_other_rows_were_chained_without_our_keys():
    ids = write(6)
    with owner() as run:
        run(f"UPDATE {LOG} SET target_label = 'a second history' WHERE id IN (%s, %s)", key(ids[4]), key(ids[5]))
        run(f"DELETE FROM {CHECKPOINTS}")
    chain_anew(5)

    assert found() == (5, ids[4])


def test_a_forged_checkpoint_is_found():
    write(4)
    with owner() as run:
        run(f"UPDATE {CHECKPOINTS} SET signature = %s", "00" * 64)

    assert [p.text for p in verifying.verify().problems] == ["database: the signature of checkpoint 1 is wrong"]


def test_checkpoints_that_left_the_database_are_missed():
    write(4)
    write(4)
    with owner() as run:
        run(f"DELETE FROM {CHECKPOINTS} WHERE number = 1")

    report = verifying.verify()
    assert not report.is_good
    assert "gone from the database, the first is 1" in report.problems[0].text


def test_a_row_that_left_before_its_seal_is_told():
    audit.record("bot.created")
    gone = str(AuditLog.objects.get().pk)
    with owner() as run:
        run(f"DELETE FROM {LOG}")
    sealer.seal_waiting()

    assert found() == (1, gone)


def test_missing_triggers_are_told():
    write(2)
    with connection.cursor() as cursor:
        where = f" ON {LOG}" if connection.vendor == "postgresql" else ""
        name = f"{LOG}_no_{'change' if connection.vendor == 'postgresql' else 'update'}"
        cursor.execute(f"DROP TRIGGER {name}{where}")

    assert name in verifying.verify().problems[0].text


def test_another_key_cannot_take_over_when_its_row_was_exchanged():
    """Who owns the database puts a public key of his own there: the site computes it from the private one."""
    write(3)
    before = signing.signer().fingerprint
    with connection.cursor() as cursor:
        cursor.execute("UPDATE monitoring_auditkey SET public = %s, fingerprint = %s", ["00" * 32, "11" * 32])

    report = verifying.verify(fingerprint=before)
    assert report.is_good
    with pytest.raises(verifying.WrongKey):
        verifying.verify(fingerprint="11" * 32)


@pytest.mark.rule("U5")
def test_a_late_entry_is_sealed_too():
    """Its id is older than what was sealed before it was committed."""
    audit.record("bot.created", target_label="late")
    late = AuditWaiting.objects.get()
    AuditWaiting.objects.all().delete()  # as if its transaction were still open
    write(4)
    late.save(force_insert=True)
    ids = write(1)

    assert ids.index(str(late.entry_id)) == 4
    assert verifying.verify().is_good


def test_checkpoints_are_few_when_nothing_happens():
    write(2)

    assert sealer.sign_if_due() is None
    assert AuditCheckpoint.objects.count() == 1
