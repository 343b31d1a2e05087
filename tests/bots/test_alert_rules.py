"""The product's alert rules: on real rows, and services on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bots import alerting
from clawdbot_site.security.models.keys import DataKey
from inference.models import LanguageModel, WorkerState
from integrations import alerting as platforms
from integrations import standing
from integrations.breaker import breaker_of
from integrations.errors import PlatformError
from integrations.registry import adapter_for
from monitoring.alerting import rules
from monitoring.alerting.rules import Look
from monitoring.models import Heartbeat
from tests import factories
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.monitoring.alerting.made import NOW, history, look, told_by, values
from tests.servers.model_service import ModelService, closed_port

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def local(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
def service() -> Iterator[ModelService]:
    with ModelService() as running:
        yield running


def heartbeat(*queues: str, age_s: float = 0, swept_s: float | None = None, started_s: float = 600) -> Heartbeat:
    now = timezone.now()
    swept = {} if swept_s is None else {"swept_at": (now - timedelta(seconds=swept_s)).isoformat()}
    return Heartbeat.objects.create(
        process=f"host:{Heartbeat.objects.count()}",
        role="worker",
        host="host",
        started_at=now - timedelta(seconds=started_s),
        seen_at=now - timedelta(seconds=age_s),
        facts={"queues": queues, **swept},
    )


def test_a_message_that_waits_is_told_by_queue() -> None:
    long_ago = timezone.now() - timedelta(seconds=61)
    factories.web_question(status="received", received_at=long_ago)
    assert values(alerting.waiting(look(history({}), 60))) == [("inference", "")]
    assert values(alerting.waiting(look(history({}), 90))) == []


def test_more_dead_letters_than_set_are_told() -> None:
    for _ in range(2):
        factories.web_question(status="failed", error="no power")
    assert values(alerting.dead_letters(look(history({}), 1))) == [("", "")]
    assert values(alerting.dead_letters(look(history({}), 2))) == []


def test_a_service_that_cannot_be_reached_is_told_before_its_check(service: ModelService) -> None:
    with closed_port() as nowhere:
        for name, address in (("here", service.base_url), ("gone", nowhere)):
            model = factories.model(name=name, engine="openai", base_url=address, model="m")
            factories.bot(model=model, slug=name)
        assert values(alerting.silent_models(look(history({})))) == [("gone", "")]


def test_a_failed_check_of_a_model_in_use_is_told() -> None:
    failed = {"status": "failing", "status_detail": "HTTP 401", "checked_at": timezone.now()}
    factories.bot(model=factories.model(name="used", **failed), slug="one")
    factories.model(name="unused", **failed)
    (breach,) = alerting.silent_models(look(history({})))
    assert (breach.subject, "HTTP 401" in breach.summary) == ("used", True)


def test_late_first_tokens_are_told_of_models_on_a_gpu_only() -> None:
    buckets = {"le=0.2": 10.0, "le=0.25": 20.0, "le=+Inf": 20.0, "count": 20.0}
    made = history({f"first_token|{name}|{key}": v for name in ("big", "small") for key, v in buckets.items()})
    for name, size in (("big", 1 << 30), ("small", 0)):
        row = {"worker": "w", "state": "ready", "started_at": timezone.now(), "seen_at": timezone.now()}
        WorkerState.objects.create(model=factories.model(name=name), gpu_memory_bytes=size, memory_bytes=1, **row)
    assert values(alerting.late_tokens(look(made, 200))) == [("big", "")]
    assert values(alerting.late_tokens(look(made, 260))) == []


def test_a_queue_without_a_living_worker_is_told() -> None:
    heartbeat("delivery", "default")
    heartbeat("inference", age_s=40)
    factories.bot(model=factories.model(queue="inference"))
    assert values(alerting.missing_workers(look(history({})))) == [("inference", "")]


@pytest.mark.parametrize(
    ("swept_s", "started_s", "found"), [(3, 600, []), (50, 600, [("", "")]), (None, 600, [("", "")]), (None, 30, [])]
)
def test_a_scheduler_that_has_nothing_swept_is_told(swept_s: float | None, started_s: float, found: Any) -> None:
    heartbeat("default", swept_s=swept_s, started_s=started_s)
    assert values(alerting.missing_scheduler(look(history({}), 40))) == found


def test_a_platforms_clock_that_is_off_is_told() -> None:
    with FakeFeishu() as feishu:
        feishu.clock_ahead_s = 90
        factories.endpoint(credential=factories.credential(base_url=feishu.url))
        alerting._clocks._asked_at = float("-inf")
        (breach,) = alerting.platform_clocks(look(history({}), 30))
    alerting._clocks._asked_at = float("-inf")
    assert (breach.subject, breach.severity, round(breach.value or 0, -1)) == (feishu.url, "critical", 90)


def test_a_credential_whose_last_call_failed_is_told_until_one_works() -> None:
    pk = str(factories.credential(name="Main").pk)
    opened = Look(NOW, 0, history({}), frozenset({"Main (Feishu / Lark)"}))
    first, second = (heartbeat("delivery") for _ in range(2))

    def told(look: Look, *apps: dict[str, list[Any]]) -> list[str]:
        for row, its in zip((first, second), apps, strict=False):
            Heartbeat.objects.filter(pk=row.pk).update(facts={"apps": its})
        return [subject for subject, _ in values(platforms.broken_credentials(look))]

    assert told(look(history({}))) == []
    assert told(opened) == ["Main (Feishu / Lark)"]
    assert told(look(history({})), {pk: ["broken", 20.0]}, {pk: ["works", 10.0]}) == ["Main (Feishu / Lark)"]
    assert told(opened, {pk: ["broken", 20.0]}, {pk: ["works", 30.0]}) == []


def test_calls_tell_whether_their_app_works() -> None:
    with FakeFeishu() as feishu:
        credential = factories.credential(base_url=feishu.url, app_id=feishu.app_id, app_secret="wrong")
        with pytest.raises(PlatformError):
            adapter_for("feishu").fetch_own_id(credential.values())
        assert standing.facts()["apps"][str(credential.pk)][0] == "broken"
        credential.app_secret = feishu.app_secret
        breaker_of(f"feishu:{feishu.url}:{feishu.app_id}:api").report()
        adapter_for("feishu").fetch_own_id(credential.values())
        assert standing.facts()["apps"][str(credential.pk)][0] == "works"


@pytest.mark.rule("E8")
@pytest.mark.parametrize(("days", "severity"), [(74, None), (75, ""), (90, "critical")])
def test_old_keys_and_old_secrets_are_told_by_a_rule_each_at_75_days_and_critical_at_90(
    days: int, severity: str | None
) -> None:
    made_at = timezone.now() - timedelta(days=days)
    DataKey.objects.filter(purpose="encrypt").update(created_at=made_at)
    model = factories.model(engine="openai", base_url="https://llm.example.com/v1", model="m", api_key="sk-1")
    LanguageModel.objects.filter(pk=model.pk).update(rotate_by=timezone.localdate(made_at + timedelta(days=90)))

    found = told_by("keys.age"), told_by("secrets.age")
    assert found == (([], []) if severity is None else ([("data", severity)], [(f"model:{model.pk}", severity)]))


@pytest.mark.rule("E8")
def test_a_secret_whose_day_is_past_is_told_once() -> None:
    """By one of all rules, whatever its age: a person may have set the day."""
    credential = factories.credential(rotate_by=timezone.localdate() - timedelta(days=1))
    of_security = [rule.name for rule in rules.all_rules() if rule.group in ("security", "platforms") and rule.look]

    assert {name: found for name in of_security if (found := told_by(name))} == {
        "secrets.age": [(f"credential:{credential.pk}", "critical")]
    }
