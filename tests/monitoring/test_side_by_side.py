"""A long log verified by several processes: the same verdict as by one. On a database that other processes see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from monitoring import audit, entries, sealer, side_by_side, sinks, triggers, verifying
from monitoring.models import AuditSeal

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.rule("U6"),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite's test database lies in memory"),
]


@pytest.fixture(autouse=True)
def ids(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of thirty sealed entries, the last five of them not signed for; three processes take ten each."""
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    monkeypatch.setattr(sinks, "_newest_sent", {})
    monkeypatch.setattr(side_by_side, "FEWEST", 10)
    for number in range(30):
        if number == 25:
            sealer.seal_waiting()
            sealer.sign()
        audit.record("bot.changed", target_label=str(number))
    sealer.seal_waiting()
    return [str(pk) for pk in AuditSeal.objects.order_by("sequence").values_list("entry_id", flat=True)]


def edit(entry_id: str) -> None:
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {triggers.AUDIT_TABLE} SET reason = 'x' WHERE id = %s", [entries.database_id(entry_id)])


def test_a_whole_log_is_whole():
    report = verifying.verify(processes=3)

    assert (report.is_good, report.is_complete, report.rows, report.last_sequence) == (True, True, 30, 30), report
    assert report.signed_through == 25


@pytest.mark.parametrize("bad", [[3], [10], [11], [17], [28], [17, 28], [4, 12]])
def test_the_first_bad_row_is_named_wherever_it_is(ids, bad):
    for sequence in bad:
        edit(ids[sequence - 1])

    report = verifying.verify(processes=3)

    assert report.first_bad
    assert (report.first_bad.sequence, report.first_bad.entry_id) == (bad[0], ids[bad[0] - 1])


def test_a_seal_that_is_gone_between_two_processes_is_named():
    with triggers.lifted(connection), connection.cursor() as cursor:
        cursor.execute("DELETE FROM monitoring_auditseal WHERE sequence = 10")

    report = verifying.verify(processes=3)
    assert report.first_bad
    assert report.first_bad.sequence == 10


def test_a_process_that_dies_costs_time_only(monkeypatch):
    me, follow = os.getpid(), verifying._follow

    def die_elsewhere(*given: Any, **more: Any) -> Any:
        if os.getpid() != me:
            os._exit(1)
        return follow(*given, **more)

    monkeypatch.setattr(verifying, "_follow", die_elsewhere)

    report = verifying.verify(processes=3)
    assert (report.is_good, report.rows) == (True, 30)
