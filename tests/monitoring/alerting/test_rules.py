"""The rules of the ground floor, each on minutes made by hand: just below, just above."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import audit
from monitoring.alerting import clocks, ground, rules
from monitoring.models import AuditWaiting
from monitoring.rollups import machine
from tests import logged
from tests.monitoring.alerting.made import history, look, more, values


def callbacks(above_500_ms: float) -> dict[str, float]:
    """100 a minute, so many of them slower than half a second."""
    buckets = {"webhook|le=0.25": 50.0, "webhook|le=0.5": 100 - above_500_ms, "webhook|le=1.0": 100.0}
    return {**buckets, "webhook|le=+Inf": 100.0, "webhook|count": 100.0}


@pytest.mark.parametrize(("slow", "found"), [(0.5, []), (2.0, [("", "")])])
def test_slow_callbacks_are_told_when_more_than_one_in_a_hundred_is(slow: float, found: Any) -> None:
    assert values(ground.slow_callbacks(look(history(callbacks(slow)), 500))) == found


def test_few_slow_callbacks_say_nothing() -> None:
    few = {name: value / 50 for name, value in callbacks(50).items()}
    assert values(ground.slow_callbacks(look(history(few), 500))) == []


def requests(errors: float) -> dict[str, float]:
    return {"http|webhooks|2xx": 100 - errors, "http|api|5xx": errors, "http|probes|5xx": 50.0}


def test_errors_that_burn_the_budget_fast_are_critical_and_slowly_a_warning() -> None:
    fast = more(history(requests(2), 60), {}, 0)
    slow = more(history(requests(0.7), 360), {}, 0)
    fine = history(requests(0.05), 360)

    assert values(ground.server_errors(look(fast, 0.1))) == [("", "critical")]
    assert values(ground.server_errors(look(slow, 0.1))) == [("", "warning")]
    assert values(ground.server_errors(look(fine, 0.1))) == []


def test_errors_that_are_over_end_the_alert() -> None:
    over = more(history(requests(0), 31), requests(5), 29, ago=31)
    assert values(ground.server_errors(look(over, 0.1))) == []


@pytest.mark.parametrize(
    ("now", "then", "found"),
    [(130, 80, [("", "")]), (130, 90, []), (50, 1, []), (130, 0, [("", "")]), (130, None, [])],
)
def test_a_surge_is_half_as_much_again_as_an_hour_ago_and_more_than_one_a_second(
    now: float, then: float | None, found: Any
) -> None:
    made = history({"http|webhooks|2xx": now})
    if then is not None:
        more(made, {"http|webhooks|2xx": then}, 5, ago=60)

    assert values(ground.surge(look(made, 1.5))) == found


def test_busy_processors_are_told_by_host() -> None:
    made = history({}, levels={"cpu|one": 0.71, "cpu|two": 0.69})
    assert values(ground.busy_cpu(look(made, 70))) == [("one", "")]


def test_used_memory_is_told_by_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_share", lambda: None)
    made = history({}, levels={"memory|one": 0.81, "memory|two": 0.79})
    assert values(ground.full_memory(look(made, 80))) == [("one", "")]


def test_a_disk_that_fills_up_becomes_critical(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "disks", lambda: {"/data": 0.01})
    made = history({}, levels={"disk_free|far|/var": 0.09, "disk_free|far|/tmp": 0.11})
    told = dict(values(ground.full_disk(look(made, 10))))
    assert told == {"far:/var": "", f"{ground.HOST}:/data": "critical"}


def test_a_gpu_that_is_not_seen_any_more_is_told_while_its_machine_lives() -> None:
    made = history({}, 3, levels={"process_cpu|worker": 0.1})
    more(made, {}, 30, ago=3, levels={"gpu|one|0": 0.5})
    assert values(ground.lost_gpu(look(made))) == [("one:0", "critical")]
    assert values(ground.lost_gpu(look(history({}, 30, levels={"gpu|one|0": 0.5, "process_cpu|worker": 1})))) == []


def test_clocks_that_disagree_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "database_skew_s", lambda: -61.0)
    monkeypatch.setattr(clocks, "redis_skew_s", lambda: 1.5)
    assert values(ground.wrong_clock(look(history({}), 2))) == [("database", "critical")]


@pytest.mark.django_db
def test_an_entry_that_waits_long_for_its_seal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    audit.record("test.done")
    assert AuditWaiting.objects.count() > 0
    at_once = values(ground.unsealed(look(history({}), 120)))
    later = timezone.now() + timedelta(seconds=130)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert (at_once, values(ground.unsealed(look(history({}), 120)))) == ([], [("", "")])


def test_every_rule_has_a_known_group_and_a_title() -> None:
    listed = rules.all_rules()
    promised = {"latency.p99", "inference.first_token", "machine.cpu", "machine.memory", "http.errors", "traffic.surge"}
    promised |= {"queue.age", "dead_letters", "audit.unsealed", "audit.sink", "keys.age", "secrets.age"}
    promised |= {"platform.quota"}
    promised |= {"certificate.expiry", "machine.disk", "machine.clock", "database.down", "redis.down", "model.down"}
    promised |= {"credential.down", "worker.gone", "scheduler.gone", "gpu.busy", "gpu.gone"}
    assert promised <= {rule.name for rule in listed}
    assert [rule.name for rule in listed if not str(rule.title) or rule.group not in rules.GROUPS] == []


def test_a_rule_that_breaks_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    broken = rules.Rule("broken", "Broken", "machine", lambda look: 1 // 0)  # type: ignore[arg-type,return-value]
    assert rules.breaches(rules.Setting.of(broken, None), look(history({}))) is None
    assert [record.message for record in logged.by(caplog, "monitoring.alerting")] == ["an alert rule could not look"]
