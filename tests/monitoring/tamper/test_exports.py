"""Rules U6 and U7: an export is proved by the verifier in it, a program of its own."""

from __future__ import annotations

import pytest

from monitoring import audit, folders

from .attacker import cut_after, run_verifier, write

pytestmark = [pytest.mark.django_db, pytest.mark.rule("U6")]


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
