"""The admin of models: keys, workers, files, and the page of costs."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from bots.models import ModelUsage
from clawdbot_site.security.key_ring import fingerprint
from inference.models import LanguageModel, ModelKey, WorkerState
from monitoring.models import AuditLog
from tests import factories
from tests.bots.admin.test_forms import MODEL

pytestmark = pytest.mark.django_db
SERVICE = {**MODEL, "engine": "openai", "base_url": "https://llm.example.com/v1", "model": "m", "name": "service"}


@pytest.fixture
def model() -> LanguageModel:
    place = {"engine": "openai", "base_url": "https://llm.example.com/v1", "model": "m"}
    return factories.model(name="service", api_key="sk-first", **place)


def change_page(model: LanguageModel) -> str:
    return reverse("admin:inference_languagemodel_change", args=[model.pk])


def test_further_keys_are_added_on_the_models_page_and_shown_as_fingerprints(browser, model):
    keys = {"keys-TOTAL_FORMS": 1, "keys-0-name": "second", "keys-0-key": "sk-second", "keys-0-is_enabled": "on"}

    saved = browser.post(change_page(model), {**SERVICE, **keys})

    assert saved.status_code == 302, saved.context["errors"]
    assert ModelKey.objects.get().key == "sk-second"
    shown = browser.get(change_page(model)).content.decode()
    assert fingerprint("sk-second") in shown
    assert "sk-second" not in shown
    assert AuditLog.objects.filter(action="modelkey.created").count() == 1


def test_a_new_host_does_not_get_the_further_keys(browser, model):
    key = ModelKey.objects.create(model=model, key="sk-second")
    kept = {"keys-TOTAL_FORMS": 1, "keys-INITIAL_FORMS": 1, "keys-0-id": key.pk, "keys-0-model": model.pk}

    refused = browser.post(
        change_page(model), {**SERVICE, **kept, "base_url": "https://evil.example/v1", "api_key": "mine"}
    )

    assert refused.status_code == 200
    model.refresh_from_db()
    assert model.base_url == "https://llm.example.com/v1"


def test_workers_and_their_load_are_shown_live(browser, model):
    stats = {"running": 3, "waiting": 2, "tokens_per_s": 120.5, "kv_used_tokens": 30, "kv_total_tokens": 120}
    stats |= {"path": "generate", "path_reason": "it is odd"}
    WorkerState.objects.create(worker="inference@gpu1", model=model, state="ready", stats=stats, memory_bytes=3 << 30)

    page = browser.get(change_page(model)).content.decode()
    listed = browser.get(reverse("admin:inference_languagemodel_changelist")).content.decode()

    for shown in ("inference@gpu1", "generate: it is odd", "25 %", "3.0", "120.5"):
        assert shown in page
    assert "1 worker, 3 at work, 2 waiting" in listed


def test_changed_files_can_be_accepted_by_who_may_change_models(browser, browser_of):
    model = factories.model(
        engine="transformers", path="/nowhere", digests={"a": "b"}, digests_pinned_at=timezone.now()
    )
    accept = reverse("admin:inference_languagemodel_accept", args=[model.pk])

    assert browser_of("auditor").post(accept).status_code == 403
    assert browser.post(accept).status_code == 302

    model.refresh_from_db()
    assert model.digests == {}
    assert AuditLog.objects.filter(action="languagemodel.files_accepted").count() == 1


def test_the_page_of_costs_sums_what_its_filters_show(browser):
    for name, cost in (("one", "1.25"), ("one-b", "2"), ("two", "4")):
        ModelUsage.objects.create(day="2026-11-01", bot=name[:3], model=name, answers=1, cost=cost, currency="USD")

    page = browser.get(reverse("admin:bots_modelusage_changelist"), {"bot": "one"}).content.decode()
    table = browser.get(reverse("admin:bots_modelusage_export"), {"bot": "one"})

    assert "3.2500 USD" in page
    assert len(table.content.decode().splitlines()) == 3
    assert AuditLog.objects.filter(action="modelusage.exported").count() == 1


def test_a_message_tells_which_model_wrote_it_and_which_one_failed(browser):
    question = factories.web_question(status="delivered")
    details = {"model": "spare", "fallback_from": {"model": "first", "reason": "no power"}}
    question.replies.create(conversation=question.conversation, role="assistant", details=details)

    page = browser.get(reverse("admin:bots_message_change", args=[question.pk])).content.decode()

    assert "spare, because first failed: no power" in page
