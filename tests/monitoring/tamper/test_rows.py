"""Rule U6: whatever the tables' owner does to a row of the log is found, and the first bad one is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection

from monitoring import sinks, verifier, verifying
from monitoring.models import Alert

from .attacker import LOG, QUEUE, SEALS, chain_anew, found, key, owner, write

pytestmark = [pytest.mark.django_db, pytest.mark.rule("U6")]
on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'")


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
