"""``manage.py audit``: what operators and auditors type, what it prints, how it ends."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from clawdbot_site.security import encryption, key_ring
from monitoring import audit, metrics, sealer, signing, sinks, triggers
from monitoring.models import AuditCheckpoint, AuditKey, AuditLog

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sink(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    monkeypatch.setattr(sinks, "_newest_sent", {})
    return tmp_path / "sink"


def run(*words: str) -> str:
    out = StringIO()
    call_command("audit", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def edit_as_owner() -> None:
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute("UPDATE monitoring_auditlog SET reason = 'edited' WHERE target_label = 'weather bot'")


def test_checkpoint_seals_signs_copies_and_shows_the_fingerprint(sink):
    audit.record("bot.created")

    said = run("checkpoint")

    assert "Sealed 1 entries; checkpoint 1 through 1." in said
    assert signing.signer().fingerprint in said
    assert len(list(sinks.FileSink(sink, "x").read())) == 1
    assert AuditLog.objects.filter(action="auditlog.checkpoint").exists()


def test_verify_says_what_it_saw_and_is_audited():
    audit.record("bot.created")
    run("checkpoint")

    assert run("verify").startswith("OK: 1 entries in an unbroken chain, signed through 1 ")
    assert AuditLog.objects.get(action="auditlog.verified").outcome == "success"


def test_verify_ends_with_an_error_that_names_the_first_bad_row():
    audit.record("bot.created", target_label="weather bot")
    run("checkpoint")
    edit_as_owner()

    with pytest.raises(
        CommandError, match=r"First bad row: sequence 1, [0-9a-f-]{36}: the entry, or its seal, was changed"
    ):
        run("verify")

    entry = AuditLog.objects.get(action="auditlog.verified")
    assert (entry.outcome, entry.reason) == ("failure", "the entry, or its seal, was changed")


def test_verify_knows_the_key_that_it_should_find():
    run("checkpoint")

    assert run("verify", "--fingerprint", signing.grouped(signing.signer().fingerprint))
    with pytest.raises(CommandError, match="another one"):
        run("verify", "--fingerprint", "ab" * 32)


def test_verify_takes_copies_from_elsewhere(tmp_path, sink, settings):
    audit.record("bot.created")
    run("checkpoint")
    copies = next(sink.glob("checkpoints-*.jsonl")).rename(tmp_path / "elsewhere.jsonl")
    with triggers.lifted(connection), connection.cursor() as cursor:
        for table in triggers.TABLES:
            cursor.execute(f"DELETE FROM {table}")
        cursor.execute("DELETE FROM monitoring_auditwaiting")

    assert run("verify").startswith("OK: 0 entries")
    with pytest.raises(CommandError, match="the end of the log was cut off: 1 entries"):
        run("verify", "--copies", str(copies))
    with pytest.raises(CommandError, match="holds no checkpoints"):
        run("verify", "--copies", str(tmp_path / "nothing"))


def test_export_writes_json_lines_and_is_audited():
    audit.record("bot.created", target_label="weather bot")
    sealer.seal_waiting()
    audit.record("bot.deleted")

    rows = [json.loads(line) for line in run("export").splitlines()]

    assert [row["action"] for row in rows] == ["bot.created", "bot.deleted", "auditlog.exported"]
    assert rows[0]["seal"]["sequence"] == 1
    assert rows[0]["created_at"].endswith("Z")


def test_export_into_a_folder_says_how_to_check_it(tmp_path):
    audit.record("bot.created")

    said = run("export", "--output", str(tmp_path / "out"), "--format", "csv")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "rows.csv",
        "checkpoints.jsonl",
        "key.json",
        "verify.py",
        "README.txt",
    }
    assert signing.signer().fingerprint in said
    assert AuditLog.objects.get(action="auditlog.exported").changes["sha256"]["after"] in said


@pytest.mark.parametrize(
    "words", [("dance",), (), ("export", "--format", "csv"), ("export", "--output", "/proc/nowhere"), ("verify", "--x")]
)
def test_nonsense_is_explained_without_a_traceback(words):
    with pytest.raises(CommandError) as raised:
        run(*words)

    assert str(raised.value)


def test_the_gauge_counts_what_waits():
    audit.record("bot.created")
    audit.record("bot.deleted")
    assert metrics.registry().get_sample_value("clawdbot_audit_unsealed") == 2.0

    sealer.seal_waiting()
    assert metrics.registry().get_sample_value("clawdbot_audit_unsealed") == 0.0


def test_old_entries_without_marks_are_taken_before_the_first_checkpoint_only():
    """What an earlier version wrote; later a missing mark is somebody else's."""
    insert = (
        "INSERT INTO monitoring_auditlog (id, created_at, actor_kind, actor_id, actor_label, action, target_type,"
        " target_id, target_label, changes, outcome, reason, count, address, request_id) VALUES"
        " (%s, '2026-01-31 08:00:00', 'system', '', '', 'bot.old', '', '', '', '{{}}', 'success', '', 1, '', '')"
    ).replace("{{}}", "{}")
    with connection.cursor() as cursor:
        cursor.execute(insert, ["01900000000070008000000000000001"])
    run("checkpoint")
    assert run("verify").startswith("OK: ")

    with connection.cursor() as cursor:
        cursor.execute(insert, ["01900000000070008000000000000002"])
    sealer.seal_waiting()
    with pytest.raises(CommandError, match="not written by ClawdBot"):
        run("verify")


def test_nothing_is_signed_before_an_old_log_is_sealed_whole(monkeypatch):
    monkeypatch.setitem(sealer.BATCH, connection.vendor, 2)
    for _ in range(5):
        audit.record("bot.created")

    sealer.run(budget_s=0.0)
    assert AuditCheckpoint.objects.count() == 0

    sealer.run()
    assert AuditCheckpoint.objects.get().sequence == 5


def test_the_private_key_follows_a_rotation_of_the_data_key():
    before = signing.signer().fingerprint
    new = key_ring.rotate()
    key_ring.forget()

    assert signing.signer().fingerprint == before
    assert encryption.key_id_of(bytes(AuditKey.objects.get().private)) == new.key_id


def test_the_private_key_is_nowhere_in_clear_and_opens_for_its_own_row_only():
    private = signing.signer().private.private_bytes_raw()
    row = AuditKey.objects.get()
    assert private.hex().encode() not in bytes(row.private)
    assert private not in bytes(row.private)

    AuditKey.objects.update(is_current=False)
    AuditKey.objects.create(private=row.private, public=row.public, fingerprint="0" * 64)
    with pytest.raises(encryption.DecryptionError):
        signing.signer()
