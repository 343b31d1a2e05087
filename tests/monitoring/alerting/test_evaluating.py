"""When an alert opens, gets worse, and closes; what settings and silences do to it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monitoring.alerting import rules
from monitoring.alerting.evaluating import Evaluator
from monitoring.alerting.leading import Leadership
from monitoring.alerting.rules import Breach
from monitoring.alerts import open_alert
from monitoring.models import Alert, AlertRule, Leader
from tests.monitoring.alerting.made import NOW, breach

pytestmark = pytest.mark.django_db


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def evaluator(clock: Clock) -> Evaluator:
    return Evaluator(clock)


def after(evaluator: Evaluator, clock: Clock, seconds: float) -> list[tuple[str, str]]:
    """What is open after another look."""
    clock.now_s += seconds
    evaluator.evaluate(NOW)
    return list(Alert.objects.open().order_by("opened_at").values_list("subject", "severity"))


def test_an_alert_opens_when_it_held_long_enough_and_closes_when_it_is_over(
    wrong: list[Breach], evaluator: Evaluator, clock: Clock
) -> None:
    wrong.append(breach("disk"))

    assert after(evaluator, clock, 0) == []
    assert after(evaluator, clock, 15) == []
    assert after(evaluator, clock, 15) == [("disk", "warning")]
    wrong.clear()
    assert after(evaluator, clock, 15) == [("disk", "warning")]
    assert after(evaluator, clock, 21) == []
    assert Alert.objects.get().details == {"value": 1.0}


def test_what_comes_and_goes_opens_nothing_and_ends_nothing(
    wrong: list[Breach], evaluator: Evaluator, clock: Clock
) -> None:
    wrong.append(breach())
    after(evaluator, clock, 0)
    wrong.clear()
    after(evaluator, clock, 15)
    wrong.append(breach())

    assert after(evaluator, clock, 16) == []
    assert after(evaluator, clock, 31) == [("", "warning")]
    wrong.clear()
    after(evaluator, clock, 15)
    wrong.append(breach())
    after(evaluator, clock, 15)
    wrong.clear()
    assert after(evaluator, clock, 15) == [("", "warning")]


def test_an_alert_that_gets_worse_is_told_again(wrong: list[Breach], evaluator: Evaluator, clock: Clock) -> None:
    wrong.append(breach())
    after(evaluator, clock, 0)
    after(evaluator, clock, 30)
    Alert.objects.update(told={"x": {"state": "opened"}})
    wrong[:] = [breach(severity="critical")]

    assert after(evaluator, clock, 15) == [("", "critical")]
    assert Alert.objects.get().told == {}


def test_a_rule_is_set_in_the_admin(wrong: list[Breach], evaluator: Evaluator, clock: Clock) -> None:
    rules.ensure_rows()
    AlertRule.objects.filter(name="test.rule").update(for_s=0, severity="critical", threshold=9)
    wrong.append(breach())

    assert after(evaluator, clock, 0) == [("", "critical")]
    assert [one.threshold for one in evaluator.settings if one.rule.name == "test.rule"] == [9]
    AlertRule.objects.filter(name="test.rule").update(is_enabled=False)
    assert after(evaluator, clock, 15) == []


def test_an_alert_of_a_rule_that_is_no_more_closes_and_one_that_something_else_opened_stays(
    evaluator: Evaluator, clock: Clock
) -> None:
    for rule in ("credential.rotation", "audit.tampered", "audit.forwarding"):
        open_alert(rule, "something", subject=rule)

    assert {subject for subject, _severity in after(evaluator, clock, 0)} == {"audit.tampered", "audit.forwarding"}


def test_what_another_alert_explains_is_not_told(wrong: list[Breach], evaluator: Evaluator, clock: Clock) -> None:
    quiet = rules.find("test.rule")
    assert quiet
    rules._rules["test.rule"] = rules.Rule("test.rule", "Test", "machine", quiet.look, quiet_under=("database.down",))
    Alert.objects.create(rule="database.down", severity="critical", summary="away")
    wrong.append(breach("disk"))

    assert after(evaluator, clock, 0) == [("", "critical")]


def test_one_process_leads_until_it_is_silent(tmp_path, settings) -> None:  # type: ignore[no-untyped-def]
    settings.DATA_DIR = tmp_path
    first, second = Leadership("host:1:a"), Leadership("host:2:b")
    at = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)

    assert [first.take(at), second.take(at)] == [True, False]
    assert [first.take(at.replace(second=30)), second.take(at.replace(second=50))] == [True, False]
    assert second.take(at.replace(minute=2))
    assert not first.take(at.replace(minute=2))
    second.resign()
    assert first.take(at.replace(minute=2))
    assert Leader.objects.get().owner == "host:1:a"
    first.let_file_go()


def test_without_a_database_the_leader_goes_on_and_nobody_else_of_its_machine(tmp_path, settings) -> None:  # type: ignore[no-untyped-def]
    from monitoring.rollups.keeping import HOST

    settings.DATA_DIR = tmp_path
    first, second, far = Leadership(f"{HOST}:1:a"), Leadership(f"{HOST}:2:b"), Leadership("elsewhere:1:c")
    at = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
    first.take(at)
    second.take(at)
    far.take(at)
    far._holder = "third:1:d"

    assert [first.may_go_on(), second.may_go_on(), far.may_go_on()] == [True, False, False]
    first.let_file_go()  # as its end does
    assert second.may_go_on()
    second.let_file_go()
