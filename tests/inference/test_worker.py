"""The engines of a process: when one is built anew, and how a process ends."""

from __future__ import annotations

import threading
import time

import pytest

from inference import reporting, worker
from inference.base import ChatMessage, GenRequest
from inference.engines.echo import EchoEngine
from inference.errors import EngineDown, ShuttingDown
from inference.models import LanguageModel, ModelKey, WorkerState
from tests import factories
from tests.servers.model_service import Script

pytestmark = pytest.mark.django_db


def fresh(model: LanguageModel) -> LanguageModel:
    return LanguageModel.objects.get(pk=model.pk)


def ask(model: LanguageModel, name: str = "one") -> object:
    return worker.engine_of(fresh(model)).submit(GenRequest(name, (ChatMessage("user", "hello"),)))


def test_a_new_price_keeps_the_engine_and_a_new_place_does_not(remote_model):
    model = remote_model()
    engine = worker.engine_of(fresh(model))

    model.prompt_price = 5
    model.save()
    assert worker.engine_of(fresh(model)) is engine
    model.model = "other"
    model.save()

    assert worker.engine_of(fresh(model)).model == "other"


def test_further_keys_take_turns_with_the_first(remote_model, model_service):
    model = remote_model()
    worker.engine_of(fresh(model))
    model_service.further_keys = {"second-key"}
    key = ModelKey.objects.create(model=model, key="second-key")

    for name in "ab":
        ask(model, name).result()
    key.delete()
    ask(model, "c").result()

    used = [asked.headers["Authorization"] for asked in model_service.requests]
    assert used == [f"Bearer {one}" for one in (model_service.api_key, "second-key", model_service.api_key)]


def test_a_refused_key_says_so_on_its_row(remote_model, model_service):
    model = remote_model(api_key="")
    bad = ModelKey.objects.create(model=model, key="bad-key")
    ModelKey.objects.create(model=model, key=model_service.api_key)

    assert ask(model).result().finish == "stop"

    bad.refresh_from_db()
    assert bad.is_resting
    assert bad.refusal == "HTTP 401: wrong key ***"
    assert "bad-key" not in bad.refusal


def test_what_cannot_be_built_is_not_tried_at_every_question(monkeypatch):
    built = []

    def build(model):
        built.append(model.name)
        raise EngineDown("no such folder")

    monkeypatch.setattr(worker, "build", build)
    model = factories.model()

    for _ in range(3):
        with pytest.raises(EngineDown, match="no such folder"):
            worker.engine_of(fresh(model))
    model.save()
    with pytest.raises(EngineDown):
        worker.engine_of(fresh(model))

    assert len(built) == 2, "once, and again when the row changed"
    worker.close_all()


def test_a_worker_that_ends_lets_answers_end_and_begins_no_new_one(remote_model, model_service):
    model = remote_model()
    model_service.script(Script(["a", "b", "c"], piece_s=0.1), Script(["never"], stall_after=0))
    quick, stuck = ask(model, "quick"), ask(model, "stuck")
    finishes: dict[str, str] = {}
    readers = [
        threading.Thread(target=lambda n=n, r=r: finishes.update({n: r.result().finish}))
        for n, r in (("quick", quick), ("stuck", stuck))
    ]
    readers[0].start()
    while not model_service.requests:
        time.sleep(0.01)
    readers[1].start()

    drain = threading.Thread(target=worker.drain_all, args=(1.0,))
    drain.start()
    while not worker._draining.is_set():
        time.sleep(0.01)
    with pytest.raises(ShuttingDown):
        ask(model, "late")
    for thread in (*readers, drain):
        thread.join(5)

    assert finishes == {"quick": "stop", "stuck": "shutdown"}


def test_workers_tell_what_their_models_do_and_leave_nothing_behind(remote_model, model_service):
    model = remote_model(name="told")
    model_service.script(Script(["a"], stall_after=0))
    reply = ask(model)
    reader = threading.Thread(target=reply.result)
    reader.start()
    reporter = reporting.Reporter("inference@here")

    reporter.tell()
    reporter.tell()

    row = WorkerState.objects.live().get()
    assert (row.worker, row.model, row.state, row.stats["running"]) == ("inference@here", model, "ready", 1)
    assert row.memory_bytes > 10_000_000
    assert reporting._gauge("running") == {"told": 1.0}
    reply.cancel()
    reader.join(5)
    reporter.stop()
    assert list(WorkerState.objects.all()) == []


def test_a_silent_worker_is_not_shown_and_soon_forgotten(remote_model):
    from datetime import timedelta

    from django.utils import timezone

    model = remote_model()
    for age_s in (30, 3000):
        seen_at = timezone.now() - timedelta(seconds=age_s)
        WorkerState.objects.create(worker=f"silent-{age_s}", model=model, state="ready", seen_at=seen_at)

    reporting.Reporter("other").tell()

    assert list(WorkerState.objects.live()) == []
    assert [row.worker for row in WorkerState.objects.all()] == ["silent-30"]


def test_stats_of_any_engine_fit_into_json():
    class Told:
        def stats(self):
            return {"running": 3, "ttft": {"p50": 0.123456789, "p99": float("inf")}, "path": ("paged",), "odd": object}

    slot = worker.Slot(model_id=None, engine=Told())

    assert reporting.stats_of(slot) == {
        "running": 3,
        "ttft": {"p50": 0.1235, "p99": None},
        "path": ["paged"],
        "odd": "<class 'object'>",
    }


def test_an_engine_that_gave_up_is_told_of_and_built_anew(monkeypatch):
    class Broken(EchoEngine):
        def stats(self):
            return {"running": 0, "has_given_up": True}

    monkeypatch.setattr(worker, "build", lambda model: Broken())
    monkeypatch.setattr(worker, "REBUILD_AFTER_S", 0.05)
    model = factories.model(name="broken")
    broken = worker.engine_of(model)
    heard: list[str] = []

    reporting.Reporter("w", on_given_up=lambda slot: heard.append(slot.name)).look()
    assert heard == ["broken"]
    reporting.Reporter("w").look()
    with pytest.raises(EngineDown, match="broke several times"):
        worker.engine_of(model)
    time.sleep(0.06)

    assert worker.engine_of(model) is not broken
    worker.close_all()
