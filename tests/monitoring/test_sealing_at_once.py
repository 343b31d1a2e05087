"""Sealers and writers at the same time: one chain, nobody forgotten. On real connections of their own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from monitoring import audit, sealer, sinks, verifying
from monitoring.models import AuditLog, AuditSeal

pytestmark = pytest.mark.django_db(transaction=True)
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'")


@pytest.fixture(autouse=True)
def sink(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    monkeypatch.setattr(sinks, "_newest_sent", {})
    monkeypatch.setitem(sealer.BATCH, connection.vendor, 7)


def closing(work: Any) -> Any:
    def run(*given: Any) -> Any:
        try:
            return work(*given)
        finally:
            connection.close()

    return run


@pytest.mark.rule("U5")
def test_several_sealers_make_one_chain_while_others_write():
    audit.record("bot.created")

    @closing
    def write(number: int) -> None:
        for _ in range(15):
            audit.record("bot.changed", target_label=str(number))

    @closing
    def seal(_number: int) -> None:
        for _ in range(10):
            sealer.run()

    with ThreadPoolExecutor(6) as pool:
        list(
            pool.map(lambda job: job[0](job[1]), [(write, 1), (seal, 1), (write, 2), (seal, 2), (write, 3), (seal, 3)])
        )
    sealer.run()
    sealer.sign()

    assert AuditSeal.objects.count() == AuditLog.objects.count() == 46
    report = verifying.verify()
    assert report.is_good, report


@on_postgresql
@pytest.mark.rule("U5")
def test_a_transaction_that_commits_late_is_sealed_late():
    begun, may_end = threading.Event(), threading.Event()

    @closing
    def slowly() -> None:
        with transaction.atomic():
            audit.record("bot.created", target_label="late")
            begun.set()
            may_end.wait(10)

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(slowly)
        begun.wait(10)
        audit.record("bot.created", target_label="soon")
        assert sealer.seal_waiting() == 1
        may_end.set()
        late.result(10)
    assert sealer.seal_waiting() == 1
    sealer.sign()

    order = {seal.entry_id: seal.sequence for seal in AuditSeal.objects.all()}
    rows = {entry.target_label: order[entry.pk] for entry in AuditLog.objects.all()}
    assert rows == {"soon": 1, "late": 2}
    assert verifying.verify().is_good


@on_postgresql
def test_a_sealer_steps_back_when_another_one_works():
    held, may_end = threading.Event(), threading.Event()

    @closing
    def hold() -> None:
        with transaction.atomic():
            assert sealer.alone()
            held.set()
            may_end.wait(10)

    audit.record("bot.created")
    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        held.wait(10)
        assert sealer.run() == 0
        may_end.set()
        holder.result(10)
    assert sealer.run() == 1
