"""``manage.py keys``: rules E8 and E9, with writers at work, interrupted, and with rows that cannot be read."""

from __future__ import annotations

import random
import threading
import time
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections

from clawdbot_site.security import key_ring, reencryption
from clawdbot_site.security.encryption import key_id_of
from clawdbot_site.security.fields import Sealed
from clawdbot_site.security.models import DataKey, SigningKey
from monitoring.models import AuditLog

CANARY = "canary-77c1"


@pytest.fixture
def file_database(transactional_db, tmp_path):
    """A database that several threads can write at once: PostgreSQL as it is, in-memory SQLite becomes a file."""
    if connection.vendor != "sqlite":
        yield
        return
    mine, config = connections["default"], connections.settings["default"]
    in_memory, config["NAME"] = config["NAME"], str(tmp_path / "keys.sqlite3")
    connections["default"] = connections.create_connection("default")
    with connections["default"].schema_editor() as editor:
        for model in (DataKey, SigningKey, AuditLog):
            editor.create_model(model)
    yield
    connections["default"].close()
    connections["default"], config["NAME"] = mine, in_memory


@pytest.fixture
def fresh_ring():
    key_ring.forget()
    yield
    key_ring.forget()


@pytest.fixture
def rows(fresh_ring, db, monkeypatch):
    """Five secrets, and nothing else that the command sees: what the site seeds for itself does not count."""
    SigningKey.objects.all().delete()
    monkeypatch.setattr(reencryption, "secret_columns", lambda: reencryption.secret_columns_of(SigningKey))
    return make_rows(5)


def make_rows(count: int) -> list[SigningKey]:
    made = [SigningKey(kid=f"k{n}", private_pem=f"{CANARY} {n}", public_jwk={}, state="retired") for n in range(count)]
    return SigningKey.objects.bulk_create(made)


def run(*words: str, **options: object) -> str:
    out = StringIO()
    call_command("keys", *words, stdout=out, stderr=out, **options)
    key_ring.forget()  # in the tests' transaction nothing is committed that would do it
    return out.getvalue()


def key_ids() -> set[int]:
    return {key_id_of(sealed.data) for sealed in SigningKey.objects.values_list("private_pem", flat=True)}


def states() -> dict[int, str]:
    return dict(DataKey.objects.filter(purpose="encrypt").values_list("key_id", "state"))


def test_status_shows_ids_states_and_rows_and_no_secret(rows):
    run("rotate")
    rows[0].private_pem = "moved"
    rows[0].save()
    said = run("status")

    counted = {line.split()[2]: line.split()[-1] for line in said.splitlines() if "encrypt" in line}
    assert counted == {"primary": "1", "active": "4"}
    assert CANARY not in said
    for material in key_ring._current().keys.values():
        assert material.hex() not in said


def test_rotate_seals_new_secrets_under_a_new_key_and_is_audited(rows):
    (old,) = key_ids()
    run("rotate")
    rows[0].private_pem = "new"
    rows[0].save()

    (new,) = key_ids() - {old}
    assert states() == {old: "active", new: "primary"}
    entry = AuditLog.objects.get(action="keys.rotated")
    assert entry.changes == {"primary": {"before": f"{old:08x}", "after": f"{new:08x}"}}


@pytest.mark.rule("E9")
def test_reencrypt_moves_every_secret_and_retires_the_old_key(rows):
    (old,) = key_ids()
    run("rotate")
    said = run("reencrypt", batch_size=2)

    (new,) = key_ids()
    assert states() == {old: "retired", new: "primary"}
    assert f"Moved 5 secrets to key {new:08x}" in said
    assert [row.private_pem for row in SigningKey.objects.order_by("kid")] == [f"{CANARY} {n}" for n in range(5)]
    changes = AuditLog.objects.get(action="keys.reencrypted").changes
    assert changes["moved"]["after"] == 5
    assert changes["retired"]["after"] == [f"{old:08x}"]


def test_reencrypt_again_moves_nothing(rows):
    run("rotate")
    run("reencrypt")

    assert "Moved 0 secrets" in run("reencrypt")


def test_secret_written_late_under_a_retired_key_is_read_and_moved(rows):
    late = SigningKey.objects.values_list("private_pem", flat=True).get(pk=rows[0].pk)
    run("rotate")
    run("reencrypt")
    SigningKey.objects.filter(pk=rows[0].pk).update(private_pem=late)

    assert SigningKey.objects.get(pk=rows[0].pk).private_pem == f"{CANARY} 0"
    assert "Moved 1 secrets" in run("reencrypt")
    assert len(key_ids()) == 1


@pytest.mark.rule("E9")
def test_unreadable_secret_is_named_kept_and_its_key_is_not_retired(rows):
    (old,) = key_ids()
    sealed = SigningKey.objects.values_list("private_pem", flat=True).get(pk=rows[0].pk)
    broken = Sealed(sealed.data[:-1] + bytes([sealed.data[-1] ^ 1]))
    SigningKey.objects.filter(pk=rows[0].pk).update(private_pem=broken)
    run("rotate")

    with pytest.raises(CommandError, match=str(rows[0].pk)):
        run("reencrypt", batch_size=1)
    assert states()[old] == "active"
    assert SigningKey.objects.filter(pk=rows[0].pk, private_pem=broken).exists()
    assert AuditLog.objects.get(action="keys.reencrypted").outcome == "failure"
    assert len(key_ids()) == 2


@pytest.mark.rule("E9")
def test_write_between_reading_and_moving_is_kept(rows, monkeypatch):
    run("rotate")
    seal = key_ring.seal

    def write_meanwhile(plaintext, aad):
        monkeypatch.setattr(key_ring, "seal", seal)
        row = SigningKey.objects.order_by("pk").first()
        row.private_pem = "written meanwhile"
        row.save()
        return seal(plaintext, aad)

    monkeypatch.setattr(key_ring, "seal", write_meanwhile)
    run("reencrypt")

    assert SigningKey.objects.order_by("pk").first().private_pem == "written meanwhile"


@pytest.mark.rule("E9")
def test_reencrypt_goes_on_where_it_was_stopped(rows, monkeypatch):
    (old,) = key_ids()
    run("rotate")
    move, moved = reencryption._move, []

    def stop_after_two(*args):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(args)
        move(*args)

    monkeypatch.setattr(reencryption, "_move", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run("reencrypt")
    assert states()[old] == "active"
    monkeypatch.setattr(reencryption, "_move", move)

    assert "Moved 3 secrets" in run("reencrypt")
    assert states()[old] == "retired"


@pytest.mark.rule("E9")
def test_nothing_is_lost_when_writers_and_interruptions_come_between(file_database, fresh_ring, monkeypatch):
    """Rule E9: 20 runs, each stopped somewhere, under two writers and a reader that never fails."""
    SigningKey.objects.all().delete()
    written = {row.pk: row.private_pem for row in make_rows(60)}
    stop, failures, move, left, interruptions = threading.Event(), [], reencryption._move, 0, 0

    def moving_until_stopped(*args):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        move(*args)

    def work(pks, is_writer, seed):
        dice = random.Random(seed)
        while not stop.is_set():
            try:
                row = SigningKey.objects.get(pk=dice.choice(pks))
                if is_writer:
                    row.private_pem = f"{seed} {dice.random()}"
                    row.save(update_fields=["private_pem"])
                    written[row.pk] = row.private_pem
                assert row.private_pem
            except OperationalError:
                time.sleep(0.01)  # SQLite is busy
            except BaseException as error:  # noqa: BLE001 (whatever it is, the test shall name it)
                failures.append(error)
            time.sleep(0.001)
        connection.close()

    pks = list(written)
    jobs = [(pks[::2], True, 1), (pks[1::2], True, 2), (pks, False, 3)]  # each row has one writer
    threads = [threading.Thread(target=work, args=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(reencryption, "_move", moving_until_stopped)
    try:
        for turn in range(20):
            key_ring.rotate()
            left = turn % 4
            try:
                reencryption.reencrypt(reencryption.secret_columns_of(SigningKey), batch_rows=4)
            except KeyboardInterrupt:
                interruptions += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    monkeypatch.setattr(reencryption, "_move", move)
    reencryption.reencrypt(reencryption.secret_columns_of(SigningKey), batch_rows=4)

    assert failures == []
    assert interruptions > 10  # the writers may have moved the few rows that a run would have stopped at
    assert {row.pk: row.private_pem for row in SigningKey.objects.all()} == written
    assert sorted(states().values()) == ["primary"] + ["retired"] * 20


def test_two_processes_at_once_make_one_key_of_each_purpose(file_database, fresh_ring):
    DataKey.objects.all().delete()
    start, made = threading.Barrier(6), []

    def first_need():
        start.wait()
        made.append(key_ring._load().ring.primary_id)
        connection.close()

    threads = [threading.Thread(target=first_need, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 6
    assert len(set(made)) == 1
    assert sorted(DataKey.objects.values_list("purpose", flat=True)) == ["digest", "encrypt"]


def test_two_rotations_at_once_leave_one_primary(file_database, fresh_ring):
    key_ring.primary_id()
    start = threading.Barrier(3)

    def rotate():
        start.wait()
        key_ring.rotate()
        connection.close()

    threads = [threading.Thread(target=rotate, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(states().values()) == ["active", "active", "active", "primary"]


def test_lost_wrapping_key_is_explained_without_a_traceback(rows, settings):
    key_ring.forget()
    settings.KEY_PROVIDER = "drawer"

    with pytest.raises(CommandError, match="KEY_PROVIDER=drawer is not supported"):
        run("status")


def test_unknown_word_is_explained(db):
    with pytest.raises(CommandError, match="invalid choice: 'dance'"):
        run("dance")


@pytest.mark.rule("E9")
def test_every_encrypted_column_of_the_site_is_moved():
    assert "security.SigningKey.private_pem" in {str(column) for column in reencryption.secret_columns()}
