"""Inside a site with an empty database: what auditing costs there. Prints the figures as JSON.

python -m bench.audit_inside ROWS CHANGES
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import django

django.setup()

from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import transaction

from monitoring import audit, sealer, side_by_side, verifying
from monitoring.context import Actor, bind
from monitoring.models import AuditLog

BATCH = 1000
BLOCK = 50  # changes that are timed together


def main(rows: int, changes: int) -> None:
    call_command("migrate", verbosity=0)
    figures: dict[str, float] = {"rows": rows, "changes": changes}
    with bind(actor=Actor("user", "1", "bench"), address="192.0.2.1", request_id="bench-request"):
        figures |= _cost_of_a_change(changes)
        figures["write_rows_per_s"] = _rate(rows, lambda: _fill(rows))
    waiting = int(sealer.waiting())
    began_s = time.process_time()
    figures["seal_rows_per_s"] = _rate(waiting, lambda: sealer.seal_waiting(budget_s=3600.0))
    figures["seal_cpu_us"] = (time.process_time() - began_s) / waiting * 1e6
    sealer.sign()
    began_s = time.process_time()
    report = verifying.verify(processes=side_by_side.processors())
    assert report.is_good, report
    figures["verify_rows_per_s"] = report.rate
    figures["verify_cpu_us"] = (time.process_time() - began_s) / report.rows * 1e6
    print(json.dumps(figures))


def _cost_of_a_change(changes: int) -> dict[str, float]:
    """The same change with and without its entry, in turn; medians of blocks, in milliseconds."""
    group = Group.objects.create(name="a")
    blocks: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * changes // BLOCK):
        is_audited = bool(number % 2)
        began = time.perf_counter()
        for name in _names():
            with transaction.atomic():
                before = audit.snapshot(group) if is_audited else {}
                group.name = name
                group.save()
                if is_audited:
                    audit.record("group.changed", target=group, changes=audit.diff(before, audit.snapshot(group)))
        blocks[is_audited].append((time.perf_counter() - began) / BLOCK * 1000)
    plain, audited = median(blocks[False]), median(blocks[True])
    return {"plain_change_ms": plain, "audited_change_ms": audited, "audit_ms": audited - plain}


def _names() -> Iterator[str]:
    return (f"name {number}" for number in range(BLOCK))


def _fill(rows: int) -> None:
    for begin in range(0, rows, BATCH):
        AuditLog.objects.bulk_create(_entry(begin + number) for number in range(min(BATCH, rows - begin)))


def _entry(number: int) -> AuditLog:
    return AuditLog(
        action="bot.changed",
        actor_kind="user",
        actor_id="42",
        actor_label="operator@example.com",
        target_type="bots.bot",
        target_id=str(number),
        target_label=f"bot {number}",
        changes={
            "name": {"before": f"old {number}", "after": f"new {number}"},
            "is_enabled": {"before": True, "after": False},
        },
        address="192.0.2.1",
        request_id=f"{number:032x}",
    )


def _rate(rows: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return rows / (time.perf_counter() - began)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
