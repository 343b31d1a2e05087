from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.urls import reverse
from rest_framework_api_key.models import APIKey

from bots.admin.dead_letters import DeadLetter
from bots.models import Bot, Chat, Conversation, Endpoint, Feedback, Message, ModelUsage
from inference.models import LanguageModel
from integrations.models import GroupRobot, PlatformCredential
from monitoring.models import AuditLog
from tests import factories

MODELS: list[Any] = [
    Bot,
    Endpoint,
    LanguageModel,
    PlatformCredential,
    GroupRobot,
    Chat,
    Conversation,
    Message,
    Feedback,
    ModelUsage,
]
LISTS = [*MODELS, DeadLetter]
WRITABLE = MODELS[:6]
SECRETS = (
    "app-secret-",
    "verification-token-",
    "encrypt-key-",
    "sk-model-secret",
    "session-secret",
    "robot-token",
    "SECrobot",
)


def page(model: Any, name: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def fill(count: int) -> None:
    for _number in range(count):
        model = factories.model(engine="openai", base_url="https://llm.example.com/v1", api_key="sk-model-secret")
        place = factories.endpoint(bot=factories.bot(model=model))
        factories.group_robot()
        question = factories.web_question(place.bot, "Where is the canteen?", status="failed", error="no power")
        question.session_url = "https://oapi.dingtalk.com/session-secret"
        question.save()
        said = {"conversation": question.conversation, "role": "assistant", "reply_to": question, "text": "Here."}
        Feedback.objects.create(reply=Message.objects.create(**said), user_id="ou_1", vote="down")
        Chat.objects.create(endpoint=place, chat_id="oc_1", name="Sales")
        ModelUsage.objects.create(day="2026-11-01", bot=place.bot.slug, model=model.name, answers=1, cost="0.5")


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("model", LISTS)
def test_list_opens(browser, model, count):
    fill(count)

    assert browser.get(page(model, "changelist")).status_code == 200


@pytest.mark.parametrize("model", LISTS)
def test_list_takes_as_many_queries_for_three_rows_as_for_one(queries, model):
    fill(1)
    of_one = queries(page(model, "changelist"))
    fill(2)

    assert queries(page(model, "changelist")) == of_one


@pytest.mark.parametrize("model", WRITABLE)
def test_add_page_opens(browser, model):
    assert browser.get(page(model, "add")).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_change_page_opens(browser, model):
    fill(1)

    assert browser.get(page(model, "change", model.objects.first().pk)).status_code == 200


@pytest.mark.parametrize("model", [Conversation, Message])
def test_what_was_said_can_be_read_but_not_changed(browser, model):
    fill(1)
    row = model.objects.first()

    assert browser.get(page(model, "add")).status_code == 403
    assert browser.post(page(model, "change", row.pk), {"text": "forged"}).status_code == 403
    assert browser.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", LISTS)
def test_search_and_filters_work(browser, model):
    fill(1)

    assert browser.get(page(model, "changelist"), {"q": "no such thing"}).status_code == 200


def test_no_page_shows_a_secret(browser):
    fill(2)
    pages = [page(model, "changelist") for model in LISTS]
    pages += [page(model, "change", row.pk) for model in MODELS for row in model.objects.all()]

    shown = [(one, secret) for one in pages for secret in SECRETS if secret in browser.get(one).content.decode()]

    assert shown == []


def test_address_of_an_endpoint_stands_on_its_own_page_only(browser):
    fill(1)
    endpoint = Endpoint.objects.get()
    pages = ["/admin/", *(page(model, "changelist") for model in MODELS)]
    pages += [page(Bot, "change", endpoint.bot_id), page(PlatformCredential, "change", endpoint.credential_id)]

    assert [one for one in pages if endpoint.key in browser.get(one).content.decode()] == []
    assert endpoint.webhook_url in browser.get(page(Endpoint, "change", endpoint.pk)).content.decode()
    assert AuditLog.objects.filter(action="endpoint.address_read").count() == 1


def test_address_is_not_shown_to_who_may_only_look(browser_of):
    fill(1)
    endpoint = Endpoint.objects.get()

    response = browser_of("auditor").get(page(Endpoint, "change", endpoint.pk))

    assert response.status_code == 200
    assert endpoint.key not in response.content.decode()


@pytest.mark.parametrize("model", LISTS)
def test_staff_without_a_role_is_refused(browser_of, model):
    assert browser_of().get(page(model, "changelist")).status_code == 403


def test_keys_of_other_packages_have_no_page():
    assert not admin.site.is_registered(APIKey)


@pytest.mark.parametrize("name", ["security_user", "security_iprule", "monitoring_auditlog", "auth_group"])
def test_pages_of_the_other_apps_open_in_the_sidebar(browser, name):
    assert browser.get(reverse(f"admin:{name}_changelist")).status_code == 200


def test_schedules_are_read_and_switched_only(browser):
    assert browser.get(reverse("admin:django_celery_beat_periodictask_changelist")).status_code == 200
    assert browser.get(reverse("admin:django_celery_beat_periodictask_add")).status_code == 403


def test_sign_in_page_has_the_two_fields(client, db):
    response = client.get("/admin/login/")

    text = response.content.decode()
    assert response.status_code == 200
    assert 'name="username"' in text
    assert 'name="password"' in text


def test_sign_in_leads_to_the_dashboard(client, django_user_model):
    django_user_model.objects.create_superuser("root", password="x")

    response = client.post("/admin/login/", {"username": "root", "password": "x"})

    assert (response.status_code, response.headers["Location"]) == (302, "/admin/")


@pytest.mark.rule("A12")
def test_only_pages_of_the_admin_may_evaluate_scripts(client, browser):
    policy = {path: browser.get(path).headers["Content-Security-Policy"] for path in ("/admin/", "/api/docs/")}

    assert {path: "'unsafe-eval'" in text for path, text in policy.items()} == {"/admin/": True, "/api/docs/": False}


def test_transcript_reads_in_order(browser):
    bot = factories.bot()
    for number in range(3):
        factories.web_question(bot, f"Question {number}", scope_key="user:1")
    conversation = Conversation.objects.get()

    text = browser.get(page(Conversation, "change", conversation.pk)).content.decode()

    places = [text.index(f"Question {number}") for number in range(3)]
    assert places == sorted(places)
    assert AuditLog.objects.filter(action="conversation.read").exists()


def test_words_of_a_chat_are_never_markup(browser):
    factories.web_question(text="<script>alert(1)</script>", scope_key="user:1")

    text = browser.get(page(Conversation, "change", Conversation.objects.get().pk)).content.decode()

    assert "<script>alert" not in text
