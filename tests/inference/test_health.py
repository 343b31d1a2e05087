"""The check of a model: what it asks, what it keeps, and what follows from it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from inference import health, worker
from inference.base import ChatMessage, GenRequest
from inference.errors import EngineDown
from inference.models import LanguageModel
from monitoring import health as probes
from tests import factories
from tests.servers.model_service import Script

pytestmark = pytest.mark.django_db


def hello() -> GenRequest:
    return GenRequest("hello", (ChatMessage("user", "hello"),))


def test_a_good_check_keeps_text_and_times_on_the_row(remote_model, model_service):
    model = remote_model()
    model_service.script(Script(["I ", "am ", "fine"], piece_s=0.02))

    found = health.check(model)

    model.refresh_from_db()
    assert (found.ok, found.status, found.text) == (True, 200, "I am fine")
    assert (model.status, model.failed_checks) == ("ok", 0)
    assert 20 <= model.first_token_ms < 2000
    assert model.tokens_per_s > 1
    assert re.fullmatch(r"\d+ ms: I am fine \(\d+ tokens/s\)", model.status_detail)
    assert [asked.path for asked in model_service.requests] == ["/v1/completions", "/v1/chat/completions"]


def test_bad_checks_are_counted_and_a_good_one_ends_the_count(remote_model, model_service):
    model = remote_model()
    model_service.script(Script(status=500, body='{"error": {"message": "loading"}}'))

    for _ in range(2):
        health.check(model)
    assert (model.status, model.failed_checks, model.status_detail) == (
        "failing",
        2,
        "HTTP 500: the service answered 500: loading",
    )
    model_service.script(Script(["back"]))
    health.check(model)

    model.refresh_from_db()
    assert (model.status, model.failed_checks) == ("ok", 0)


def test_a_service_over_its_limit_is_shown_and_not_given_up(remote_model, model_service):
    model = remote_model()
    model_service.script(Script(status=429, body='{"error": {"message": "slow down"}}'))

    health.check(model)

    assert (model.status, model.failed_checks) == ("failing", 0)


def test_two_bad_checks_elsewhere_spare_people_the_wait_and_a_good_one_lets_them_through(remote_model, model_service):
    model = remote_model()
    engine = worker.engine_of(model)
    LanguageModel.objects.filter(pk=model.pk).update(
        status="failing", failed_checks=2, status_detail="HTTP 500: down", checked_at=timezone.now()
    )

    with pytest.raises(EngineDown, match="last: HTTP 500: down"):
        worker.engine_of(LanguageModel.objects.get(pk=model.pk)).submit(hello())
    LanguageModel.objects.filter(pk=model.pk).update(status="ok", failed_checks=0, checked_at=timezone.now())

    assert worker.engine_of(LanguageModel.objects.get(pk=model.pk)) is engine
    assert engine.submit(hello()).result().text == "echo: hello"


@pytest.mark.parametrize(("failed_checks", "age_s"), [(1, 0), (5, 600)])
def test_one_bad_check_or_an_old_one_closes_no_door(remote_model, failed_checks, age_s):
    checked_at = timezone.now() - timedelta(seconds=age_s)
    model = remote_model(status="failing", failed_checks=failed_checks, checked_at=checked_at)

    assert worker.engine_of(model).submit(hello()).result().finish == "stop"


@pytest.mark.django_db(transaction=True)
def test_the_look_of_every_minute_asks_what_enabled_bots_use(remote_model, model_service):
    used, spare, idle, unwatched = (remote_model(is_checked_often=wanted) for wanted in (True, True, True, False))
    factories.bot(model=used, fallback_model=spare)
    factories.bot(model=idle, is_enabled=False)
    factories.bot(model=unwatched)
    local = factories.model(engine="transformers", path="/models/one")
    factories.bot(model=local)
    left_to_workers: list[LanguageModel] = []

    health.check_used(left_to_workers.append)

    checked = LanguageModel.objects.exclude(checked_at=None)
    assert set(checked.values_list("name", "status")) == {(used.name, "ok"), (spare.name, "ok")}
    assert left_to_workers == [local]


def test_a_busy_model_is_not_a_dead_one(monkeypatch):
    from inference.engines.echo import EchoEngine
    from inference.errors import QueueFull

    class Busy(EchoEngine):
        def submit(self, request):
            raise QueueFull("8 requests are waiting")

    monkeypatch.setattr(worker, "build", lambda model: Busy())
    model = factories.model()

    health.check(model)

    assert (model.status, model.status_detail) == ("ok", "8 requests are waiting")
    worker.close_all()


def test_states_tell_of_every_model_without_asking_one(remote_model, model_service, django_assert_num_queries):
    fresh = remote_model(name="a", status="ok", checked_at=timezone.now(), first_token_ms=12, tokens_per_s=3.5)
    remote_model(name="b", status="failing", checked_at=timezone.now() - timedelta(hours=1))
    factories.model(name="c")
    factories.bot(model=fresh)

    with django_assert_num_queries(2):
        states = health.states()

    told = [(one.name, one.status, one.is_fresh, one.is_used) for one in states]
    assert told == [("a", "ok", True, True), ("b", "failing", False, False), ("c", "unknown", False, False)]
    assert (states[0].first_token_ms, states[0].tokens_per_s) == (12, 3.5)
    assert model_service.requests == []


@pytest.fixture
def models_of_readyz(client, monkeypatch):
    """Status of the answer, and what it says of models, asked anew."""

    def ask():
        monkeypatch.setattr(probes, "_last", (float("-inf"), []))
        answer = client.get("/readyz", REMOTE_ADDR="127.0.0.1")
        told = answer.json()["checks"]["models"]
        return answer.status_code, told["status"], told["detail"]

    return ask


def test_readyz_names_the_models_that_do_not_answer_and_stays_ready(remote_model, models_of_readyz):
    up = remote_model(name="up", status="ok", checked_at=timezone.now())
    down = remote_model(name="down", status="failing", status_detail="inner words", checked_at=timezone.now())
    factories.bot(model=up)
    assert models_of_readyz() == (200, "ok", "1 of 1 answered their last check")

    factories.bot(model=down)
    assert models_of_readyz() == (200, "failed", "1 of 2 do not answer: down")
