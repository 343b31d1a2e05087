"""Models over REST: their health, workers, files, further keys; and what they cost."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clawdbot_site.security.key_ring import fingerprint
from inference import worker
from inference.models import LanguageModel, ModelKey, WorkerState
from monitoring.models import AuditLog
from tests import factories
from tests.servers.model_service import ModelService, Script

pytestmark = pytest.mark.django_db
API = "/api/v1/"


@pytest.fixture
def service(settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as running:
        yield running
    worker.close_all()


@pytest.fixture
def model(service) -> LanguageModel:
    return factories.model(engine="openai", base_url=service.base_url, model="m", api_key=service.api_key)


def test_a_check_answers_with_what_it_found(rest, model, service):
    service.script(Script(["I am fine"]))

    answer = rest.post(f"{API}models/{model.pk}/check/")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["failed_checks"]) == ("ok", 0)
    assert answer.json()["first_token_ms"] >= 0
    assert AuditLog.objects.filter(action="languagemodel.checked").count() == 1


def test_live_workers_stand_on_the_model(rest, model):
    told = {"worker": "inference@a", "state": "ready", "stats": {"running": 3, "waiting": 1}, "memory_bytes": 5}
    WorkerState.objects.create(model=model, **told)

    workers = rest.get(f"{API}models/{model.pk}/").json()["workers"]

    assert [{name: one[name] for name in told} for one in workers] == [told]


def test_prices_and_patience_are_written_and_checked(rest, model):
    given = {"prompt_price": "2.5", "completion_price": "8", "currency": "USD", "first_token_timeout_s": 20}

    answer = rest.patch(f"{API}models/{model.pk}/", given)

    assert {name: answer.json()[name] for name in given} == {
        **given,
        "prompt_price": "2.5000",
        "completion_price": "8.0000",
    }
    for wrong in ({"prompt_price": "-1"}, {"currency": "euro"}, {"first_token_timeout_s": 0}):
        assert list(rest.patch(f"{API}models/{model.pk}/", wrong).json()["error"]["fields"]) == list(wrong)


def test_a_new_place_forgets_what_was_found_at_the_old_one(rest, model):
    LanguageModel.objects.filter(pk=model.pk).update(
        status="ok", checked_at=timezone.now(), digests={"a": "b"}, digests_pinned_at=timezone.now()
    )

    rest.patch(f"{API}models/{model.pk}/", {"prompt_price": "1"})
    assert rest.get(f"{API}models/{model.pk}/").json()["status"] == "ok"
    answer = rest.patch(f"{API}models/{model.pk}/", {"path": "/models/other"}).json()

    assert (answer["status"], answer["checked_at"], answer["digests_pinned_at"]) == ("unknown", None, None)


def test_files_can_be_accepted(rest, model):
    LanguageModel.objects.filter(pk=model.pk).update(digests={"a": "b"}, digests_pinned_at=timezone.now())

    answer = rest.post(f"{API}models/{model.pk}/accept-files/")

    model.refresh_from_db()
    assert (answer.status_code, model.digests) == (200, {})
    assert AuditLog.objects.filter(action="languagemodel.files_accepted").count() == 1


def test_a_further_key_goes_in_and_only_its_fingerprint_comes_out(rest, model):
    answer = rest.post(f"{API}model-keys/", {"model": model.name, "name": "second", "key": "sk-second"})

    assert answer.status_code == 201
    assert answer.json()["key_fingerprint"] == fingerprint("sk-second")
    assert "sk-second" not in rest.get(f"{API}model-keys/").content.decode()
    assert "sk-second" not in str(list(AuditLog.objects.values()))
    assert ModelKey.objects.get().key == "sk-second"


def test_a_key_cannot_be_carried_to_another_host(rest, model):
    other = factories.model(engine="openai", base_url="https://evil.example/v1")
    key = rest.post(f"{API}model-keys/", {"model": model.name, "key": "sk-second"}).json()

    moved = rest.patch(f"{API}model-keys/{key['id']}/", {"model": other.name})
    led_away = rest.patch(f"{API}models/{model.pk}/", {"base_url": "https://evil.example/v1", "api_key": "mine"})

    assert list(moved.json()["error"]["fields"]) == ["model"]
    assert list(led_away.json()["error"]["fields"]) == ["base_url"]
    assert rest.delete(f"{API}model-keys/{key['id']}/").status_code == 204
    allowed = {"base_url": "https://llm.example.com/v1", "api_key": "mine"}
    assert rest.patch(f"{API}models/{model.pk}/", allowed).status_code == 200


def test_a_bot_names_its_fallback_and_its_replies_tell_who_wrote_them(rest, model):
    spare = factories.model(name="spare")
    bot = factories.bot(model=model)

    answer = rest.patch(f"{API}bots/{bot.slug}/", {"fallback_model": "spare"})
    assert answer.json()["fallback_model"] == "spare"
    assert rest.delete(f"{API}models/{spare.pk}/").status_code == 409
    question = factories.web_question(bot)
    reply = question.replies.create(
        conversation=question.conversation,
        role="assistant",
        details={"model": "spare", "fallback_from": {"model": model.name, "reason": "down"}},
    )
    told = rest.get(f"{API}messages/{reply.pk}/").json()

    assert (told["model"], told["fallback_from"]) == ("spare", {"model": model.name, "reason": "down"})


def test_usage_is_listed_filtered_and_downloaded(rest):
    from bots.models import ModelUsage

    for day, name in (("2026-11-01", "one"), ("2026-11-02", "one"), ("2026-11-02", "two")):
        ModelUsage.objects.create(day=day, bot=name, model="gpt", answers=3, cost="0.25", currency="USD")

    listed = rest.get(f"{API}usage/?since=2026-11-02&bot=one").json()["results"]
    table = rest.get(f"{API}usage/?format=csv&model=gpt")

    assert [(row["day"], row["bot"], row["cost"], row["currency"]) for row in listed] == [
        ("2026-11-02", "one", "0.250000", "USD")
    ]
    assert table["Content-Type"].startswith("text/csv")
    assert len(table.content.decode().splitlines()) == 4
    assert rest.get(f"{API}usage/?format=xml").status_code == 400
