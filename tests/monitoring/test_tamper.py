"""Rule U6: whatever the tables' owner does to the log is found, and the first bad row is named. On both databases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from monitoring import audit, entries, folders, links, sealer, signing, sinks, triggers, verifier, verifying
from monitoring.models import Alert, AuditCheckpoint, AuditLog, AuditSeal, AuditWaiting

pytestmark = [pytest.mark.django_db, pytest.mark.rule("U6")]
LOG, SEALS, CHECKPOINTS = triggers.TABLES
QUEUE = triggers.QUEUE_TABLE
on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'")


@pytest.fixture(autouse=True)
def copies(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the one sink; it is out of the attacker's reach."""
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    monkeypatch.setattr(sinks, "_newest_sent", {})
    return tmp_path / "sink"


def write(number: int, prefix: str = "bot") -> list[str]:
    """So many entries, sealed, signed and copied; returns the ids of all entries in the order of the chain."""
    for _ in range(number):
        audit.record("bot.changed", target_label=prefix, changes={"name": {"before": "früher", "after": 1.5}})
    sealer.seal_waiting()
    sealer.sign()
    sinks.copy_all()
    return [str(pk) for pk in AuditSeal.objects.order_by("sequence").values_list("entry_id", flat=True)]


@contextmanager
def owner() -> Iterator[Callable[..., None]]:
    """Runs SQL as who owns the tables: the triggers are lifted and stand again afterwards."""
    with triggers.lifted(connection), connection.cursor() as cursor:
        yield lambda sql, *params: cursor.execute(sql, list(params))


def key(entry_id: str) -> Any:
    return entries.database_id(entry_id)


def chain_anew(first: int) -> None:
    """What an attacker who read our source does after a change: new hashes from there on, and matching checkpoints."""
    rows = list(links.chain())
    previous = rows[first - 2][3] if first > 1 else verifier.GENESIS
    with owner() as run:
        for sequence, entry_id, state, _stored, _mark, entry in rows[first - 1 :]:
            digest = verifier.digest_of(entry) if entry else verifier.GENESIS
            previous = verifier.link(previous, sequence, entry_id, state, digest)
            run(f"UPDATE {SEALS} SET hash = %s WHERE sequence = %s", previous, sequence)


def found() -> tuple[int, str]:
    """(sequence, entry id) of the first bad row."""
    report = verifying.verify()
    assert not report.is_good
    assert report.first_bad is not None, report.problems
    return report.first_bad.sequence, report.first_bad.entry_id


def test_an_untouched_log_verifies(copies):
    write(5)
    write(7)

    report = verifying.verify(copies=[("copy", list(sinks.FileSink(copies, "x").read()))])

    assert (report.is_good, report.rows, report.signed_through, report.waiting) == (True, 12, 12, 0)


def test_an_edited_row_is_named():
    ids = write(9)
    with owner() as run:
        run(f"UPDATE {LOG} SET actor_label = 'somebody else' WHERE id = %s", key(ids[4]))

    assert found() == (5, ids[4])


@pytest.mark.parametrize("column", verifier.SEALED[1:])
def test_every_column_is_covered(column):
    ids = write(3)
    value = {"count": 99, "changes": '{"x": 1}', "created_at": "2020-01-01 00:00:00", "outcome": "failure"}
    with owner() as run:
        run(f"UPDATE {LOG} SET {column} = %s WHERE id = %s", value.get(column, "x"), key(ids[1]))

    assert found() == (2, ids[1])


def test_an_edited_row_is_named_when_the_chain_was_written_anew():
    ids = write(9)
    with owner() as run:
        run(f"UPDATE {LOG} SET actor_label = 'somebody else' WHERE id = %s", key(ids[4]))
    chain_anew(5)

    assert found() == (5, ids[4])


def test_a_deleted_row_is_named():
    ids = write(9)
    with owner() as run:
        run(f"DELETE FROM {LOG} WHERE id = %s", key(ids[3]))

    assert found() == (4, ids[3])


def test_a_row_deleted_with_its_seal_is_named_by_its_place():
    ids = write(9)
    with owner() as run:
        run(f"DELETE FROM {LOG} WHERE id = %s", key(ids[3]))
        run(f"DELETE FROM {SEALS} WHERE sequence = 4")

    assert found() == (4, "")


def test_a_deleted_row_is_named_when_the_chain_was_closed_behind_it():
    ids = write(9)
    with owner() as run:
        run(f"DELETE FROM {LOG} WHERE id = %s", key(ids[3]))
        run(f"DELETE FROM {SEALS} WHERE sequence = 4")
        for sequence in range(5, 10):
            run(f"UPDATE {SEALS} SET sequence = %s WHERE sequence = %s", sequence - 1, sequence)
    chain_anew(4)

    assert found() == (4, ids[4])


def test_the_first_rows_are_missed():
    ids = write(9)
    with owner() as run:
        run(f"DELETE FROM {LOG} WHERE id IN (%s, %s)", key(ids[0]), key(ids[1]))
        run(f"DELETE FROM {SEALS} WHERE sequence <= 2")

    assert found() == (1, "")


def insert(run: Callable[..., None], entry_id: str, like: str) -> None:
    columns = ", ".join([*verifier.COLUMNS[1:], "mark"])
    run(f"INSERT INTO {LOG} (id, {columns}) SELECT %s, {columns} FROM {LOG} WHERE id = %s", key(entry_id), key(like))


OTHER = "01900000-0000-7000-8000-000000000001"


def test_an_inserted_row_is_named_when_the_sealer_takes_it_up():
    ids = write(5)
    with connection.cursor() as cursor:  # inserting is allowed to everybody
        insert(lambda sql, *params: cursor.execute(sql, list(params)), OTHER, ids[2])
    write(3)

    assert found() == (6, OTHER)
    assert Alert.objects.get(rule="audit.tampered").details["entry"] == OTHER


def test_an_inserted_row_is_named_when_it_was_kept_from_the_sealer():
    ids = write(5)
    with owner() as run:
        insert(run, OTHER, ids[2])
        run(f"DELETE FROM {QUEUE}")
    write(2)

    assert found() == (0, OTHER)


def test_an_inserted_row_is_named_when_the_chain_was_opened_for_it():
    ids = write(5)
    with owner() as run:
        insert(run, OTHER, ids[2])
        run(f"DELETE FROM {QUEUE}")
        for sequence in (5, 4, 3):
            run(f"UPDATE {SEALS} SET sequence = %s WHERE sequence = %s", sequence + 1, sequence)
        run(f"INSERT INTO {SEALS} (sequence, entry_id, state, hash, mark) VALUES (3, %s, 0, '', 'x')", key(OTHER))
    chain_anew(3)

    assert found() == (3, OTHER)


def test_an_inserted_row_is_named_when_its_seal_stands_before_the_first():
    ids = write(3)
    with owner() as run:
        insert(run, OTHER, ids[2])
        run(f"DELETE FROM {QUEUE}")
        run(f"INSERT INTO {SEALS} (sequence, entry_id, state, hash, mark) VALUES (-7, %s, 0, '', 'x')", key(OTHER))

    assert not verifying.verify().is_good


@on_sqlite
@pytest.mark.parametrize(("column", "value"), [("changes", "no JSON"), ("changes", "[" * 5000), ("reason", b"\xff")])
def test_a_row_is_named_when_it_holds_what_no_entry_can_hold(column, value):
    ids = write(3)
    with owner() as run:
        run("PRAGMA ignore_check_constraints=ON")
        run(f"UPDATE {LOG} SET {column} = %s WHERE id = %s", value, key(ids[1]))
        run("PRAGMA ignore_check_constraints=OFF")

    assert found() == (2, ids[1])


def test_exchanged_rows_are_named():
    ids = write(6)
    with owner() as run:
        run(f"UPDATE {SEALS} SET sequence = -1 WHERE sequence = 2")
        run(f"UPDATE {SEALS} SET sequence = 2 WHERE sequence = 4")
        run(f"UPDATE {SEALS} SET sequence = 4 WHERE sequence = -1")

    assert found() == (2, ids[3])


def test_exchanged_rows_are_named_when_the_chain_was_written_anew():
    ids = write(6)
    with owner() as run:
        run(f"UPDATE {SEALS} SET sequence = -1 WHERE sequence = 2")
        run(f"UPDATE {SEALS} SET sequence = 2 WHERE sequence = 4")
        run(f"UPDATE {SEALS} SET sequence = 4 WHERE sequence = -1")
    chain_anew(2)

    assert found() == (2, ids[3])


def cut_after(sequence: int, ids: list[str]) -> None:
    """The tail leaves from all tables that the attacker can reach."""
    with owner() as run:
        for entry_id in ids[sequence:]:
            run(f"DELETE FROM {LOG} WHERE id = %s", key(entry_id))
        run(f"DELETE FROM {SEALS} WHERE sequence > %s", sequence)
        run(f"DELETE FROM {CHECKPOINTS} WHERE sequence > %s", sequence)


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


# -- the exported verifier, as a program of its own --


def run_verifier(folder: Path, *more: str, fingerprint: str = "") -> tuple[int, str]:
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), "--fingerprint"]
    done = subprocess.run(
        [*command, fingerprint or signing.signer().fingerprint, *more],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.rule("U7")
def test_an_export_proves_itself_without_the_product(tmp_path, form):
    audit.record("bot.created", target_label="=1+1\n\u202e\x7f", changes={"text": "名字 \x85 =2"})
    write(3)
    folders.write(tmp_path / "export", form)

    code, said = run_verifier(tmp_path / "export")

    assert (code, said.partition(" entries")[0]) == (0, "OK: 4")


@pytest.mark.rule("U7")
def test_an_export_is_refused_when_the_fingerprint_is_another(tmp_path):
    write(3)
    folders.write(tmp_path / "export", "jsonl")

    code, said = run_verifier(tmp_path / "export", fingerprint="ab" * 32)

    assert code == 1
    assert "another key" in said


def test_an_edited_export_names_the_row(tmp_path):
    ids = write(3)
    folders.write(tmp_path / "export", "jsonl")
    rows = tmp_path / "export" / "rows.jsonl"
    lines = rows.read_text("utf-8").splitlines(keepends=True)
    rows.write_text(lines[0] + lines[1].replace("bot.changed", "bot.deleted") + lines[2], "utf-8")

    code, said = run_verifier(tmp_path / "export")

    assert code == 1
    assert f"first bad row: sequence 2 {ids[1]}" in said


@pytest.mark.rule("U7")
def test_an_export_of_a_cut_log_is_found_by_copies_from_elsewhere(tmp_path, copies):
    ids = write(3)
    ids = write(3)
    cut_after(3, ids)
    folders.write(tmp_path / "export", "jsonl")

    assert run_verifier(tmp_path / "export")[0] == 0
    code, said = run_verifier(tmp_path / "export", "--copies", *map(str, copies.glob("checkpoints-*")))
    assert code == 1
    assert "sequence 4" in said


def test_checkpoints_are_few_when_nothing_happens():
    write(2)

    assert sealer.sign_if_due() is None
    assert AuditCheckpoint.objects.count() == 1
