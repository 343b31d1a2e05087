from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from bots.models import Bot, Endpoint
from inference.models import LanguageModel
from integrations.models import PlatformCredential
from tests import factories
from tests.servers.model_service import ModelService, closed_port

NO_KEYS = {"keys-TOTAL_FORMS": 0, "keys-INITIAL_FORMS": 0}
MODEL = {
    "engine": "echo",
    "max_context_tokens": 1024,
    "max_concurrency": 4,
    "queue": "inference",
    "first_token_timeout_s": 60,
    "between_tokens_timeout_s": 60,
    "prompt_price": 0,
    "completion_price": 0,
    "currency": "CNY",
    **NO_KEYS,
}
FEISHU = {"name": "Acme", "platform": "feishu", "app_id": "cli_x", "app_secret": "s1", "verification_token": "v1"}
ADD: dict[Any, str] = {
    LanguageModel: "admin:inference_languagemodel_add",
    PlatformCredential: "admin:integrations_platformcredential_add",
    Endpoint: "admin:bots_endpoint_add",
    Bot: "admin:bots_bot_add",
}
NO_ENDPOINTS = {"endpoints-TOTAL_FORMS": 0, "endpoints-INITIAL_FORMS": 0}
BOT = {
    "name": "Helper",
    "slug": "helper",
    "temperature": 0.5,
    "top_p": 1,
    "max_tokens": 100,
    "history_messages": 10,
    "context_scope": "sender",
    "group_policy": "mention",
    "access": "everyone",
    "reply_mode": "text",
    "too_late_after_s": 60,
    "rate_limit_per_user_per_minute": 20,
    "daily_tokens_per_user": 0,
    "max_waiting": 1000,
    **dict.fromkeys(["daily_messages_per_user", "daily_messages", "daily_tokens", "keep_messages_days"], 0),
    **dict.fromkeys(["max_parallel", "max_parallel_per_user"], 0),
    "moderates": "both",
    "moderation_failure": "closed",
    "moderation_timeout_s": 10,
    **NO_ENDPOINTS,
}
ENDPOINT = {"mode": "webhook", "is_enabled": "on", "unconfirmed_policy": "ask", "rate_limit_per_minute": 0}


def errors_of(response: Any) -> dict[str, list[str]]:
    """Empty when the form was taken."""
    return {} if response.status_code == 302 else dict(response.context["adminform"].form.errors)


def add(browser: Any, model: Any, values: dict[str, Any]) -> dict[str, list[str]]:
    return errors_of(browser.post(reverse(ADD[model]), values))


def change(browser: Any, row: Any, values: dict[str, Any]) -> dict[str, list[str]]:
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return errors_of(browser.post(reverse(name, args=[row.pk]), values))


# -- language models --


@pytest.mark.parametrize(("engine", "field"), [("openai", "base_url"), ("transformers", "path")])
def test_model_needs_what_its_engine_needs(browser, engine, field):
    assert list(add(browser, LanguageModel, {**MODEL, "name": "m", "engine": engine})) == [field]


def test_model_with_a_host_of_the_private_dns_is_taken(browser):
    given = {**MODEL, "name": "m", "engine": "openai", "base_url": "http://vllm:8000/v1", "api_key": "sk-1"}

    assert add(browser, LanguageModel, given) == {}
    model = LanguageModel.objects.get()
    assert (model.base_url, model.api_key) == ("http://vllm:8000/v1", "sk-1")


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/v1", "ftp://host/v1", "http://u:p@host/v1", "http://10.0.0.1/v1"]
)
def test_model_at_an_address_that_is_never_called_is_refused(browser, url):
    assert list(add(browser, LanguageModel, {**MODEL, "name": "m", "engine": "openai", "base_url": url})) == [
        "base_url"
    ]


def test_blank_key_keeps_the_stored_one(browser):
    model = factories.model(name="m", engine="openai", base_url="https://a.example.com/v1", api_key="sk-1")
    same = {**MODEL, "name": "m", "engine": "openai", "base_url": "https://a.example.com/v1", "api_key": ""}

    assert change(browser, model, same) == {}
    assert LanguageModel.objects.get().api_key == "sk-1"


def test_key_must_be_given_again_when_the_address_leads_to_another_host(browser):
    model = factories.model(name="m", engine="openai", base_url="https://a.example.com/v1", api_key="sk-1")
    moved = {**MODEL, "name": "m", "engine": "openai", "base_url": "https://evil.example.com/v1", "api_key": ""}

    assert list(change(browser, model, moved)) == ["api_key"]
    assert LanguageModel.objects.get().base_url == "https://a.example.com/v1"


def test_last_check_is_forgotten_when_the_model_is_moved(browser):
    model = factories.model(name="m", engine="echo", status="ok", status_detail="2 ms: hello")

    change(browser, model, {**MODEL, "name": "m", "engine": "openai", "base_url": "https://a.example.com/v1"})

    assert LanguageModel.objects.get().status == "unknown"


# -- the check --


def check(browser: Any, model: LanguageModel) -> LanguageModel:
    response = browser.post(reverse("admin:inference_languagemodel_check", args=[model.pk]))
    assert response.status_code == 302
    model.refresh_from_db()
    return model


def test_check_stores_what_a_service_answers(browser, settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as service:
        model = factories.model(engine="openai", base_url=service.base_url, model="m", api_key=service.api_key)
        checked = check(browser, model)

    assert checked.status == "ok"
    assert " ms: " in checked.status_detail
    assert checked.checked_at is not None


def test_check_stores_why_a_service_does_not_answer(browser, settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with closed_port() as url:
        checked = check(browser, factories.model(engine="openai", base_url=url, model="m"))

    assert checked.status == "failing"
    assert checked.status_detail != ""


def test_selected_models_are_checked(browser):
    model = factories.model(engine="echo")

    browser.post(
        reverse("admin:inference_languagemodel_changelist"),
        {"action": "check_selected", "_selected_action": [model.pk]},
    )

    model.refresh_from_db()
    assert model.status == "ok"


def test_check_is_refused_to_who_may_only_look_and_to_links(browser, browser_of):
    page = reverse("admin:inference_languagemodel_check", args=[factories.model().pk])

    assert browser_of("auditor").post(page).status_code == 403
    assert browser.get(page).status_code == 405


# -- credentials --


def test_feishu_without_encrypt_key_needs_a_yes(browser):
    assert list(add(browser, PlatformCredential, FEISHU)) == ["encrypt_key"]
    assert add(browser, PlatformCredential, {**FEISHU, "allow_unsigned": "on"}) == {}


def test_feishu_needs_a_verification_token(browser):
    given = {**FEISHU, "verification_token": "", "encrypt_key": "e1"}

    assert list(add(browser, PlatformCredential, given)) == ["verification_token"]


def test_dingtalk_needs_neither(browser):
    given = {"name": "Acme", "platform": "dingtalk", "app_id": "ding1", "app_secret": "s1"}

    assert add(browser, PlatformCredential, given) == {}


KEYS_OF_EVENTS = {"verification_token": "exampleToken01", "encrypt_key": "a1" * 21 + "b"}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"verification_token": "ab"}, ["verification_token"]),
        ({"verification_token": "with blank"}, ["verification_token"]),
        ({"encrypt_key": "a" * 42}, ["encrypt_key"]),
        ({"encrypt_key": "a" * 42 + "="}, ["encrypt_key"]),
        ({"encrypt_key": ""}, ["encrypt_key"]),
        ({"verification_token": ""}, ["verification_token"]),
    ],
)
def test_dingtalks_event_keys_come_together_and_in_their_form(browser, changes, fields):
    given = {"name": "Acme", "platform": "dingtalk", "app_id": "ding1", "app_secret": "s1", **KEYS_OF_EVENTS, **changes}

    assert list(add(browser, PlatformCredential, given)) == fields


def test_stored_secrets_count_when_a_credential_is_changed(browser):
    credential = factories.credential()
    given = {"name": "Renamed", "platform": "feishu", "app_id": credential.app_id}

    assert change(browser, credential, given) == {}
    assert PlatformCredential.objects.get().encrypt_key == credential.encrypt_key


def test_an_app_stays_on_its_platform(browser):
    credential = factories.credential()

    change(browser, credential, {"name": "x", "platform": "dingtalk", "app_id": credential.app_id})

    assert PlatformCredential.objects.get().platform == "feishu"


def test_own_id_is_learned_anew_when_the_app_is_another(browser):
    credential = factories.credential(own_id="ou_bot")

    change(browser, credential, {"name": "x", "platform": "feishu", "app_id": "cli_other", "app_secret": "s2"})

    assert PlatformCredential.objects.get().own_id == ""


def test_the_same_app_twice_is_refused_in_words(browser):
    credential = factories.credential(app_id="cli_x")

    errors = add(browser, PlatformCredential, {**FEISHU, "encrypt_key": "e1", "app_id": credential.app_id})

    assert list(errors) == ["__all__"]


# -- bots and endpoints --


def test_common_answers_and_the_longest_queue_are_set_in_the_form(browser):
    given = {**BOT, "model": factories.model().pk, "answers_together": "on", "max_waiting": 7}

    assert add(browser, Bot, given) == {}
    assert Bot.objects.values_list("answers_together", "max_waiting").get() == (True, 7)


def test_policy_and_limit_of_an_endpoint_are_set_in_the_form(browser):
    endpoint = factories.endpoint()
    given = {**ENDPOINT, "bot": endpoint.bot_id, "credential": endpoint.credential_id}

    assert change(browser, endpoint, {**given, "unconfirmed_policy": "send_again", "rate_limit_per_minute": 60}) == {}
    endpoint.refresh_from_db()
    assert (endpoint.unconfirmed_policy, endpoint.rate_limit_per_minute) == ("send_again", 60)


def test_bot_with_hosts_is_taken(browser):
    given = {**BOT, "model": factories.model().pk, "allowed_link_hosts": "docs.example.com\n*.corp.example.com"}

    assert add(browser, Bot, given) == {}
    assert Bot.objects.get().allowed_link_hosts == ["docs.example.com", "*.corp.example.com"]


def test_bot_with_a_bad_host_is_refused(browser):
    given = {**BOT, "model": factories.model().pk, "allowed_link_hosts": "https://docs.example.com/"}

    assert list(add(browser, Bot, given)) == ["allowed_link_hosts"]


def test_endpoint_is_made_and_leads_to_the_steps(browser):
    given = {**ENDPOINT, "bot": factories.bot().pk, "credential": factories.credential().pk}

    response = browser.post(reverse(ADD[Endpoint]), given)

    assert response.headers["Location"] == reverse("admin:bots_endpoint_change", args=[Endpoint.objects.get().pk])


@pytest.mark.parametrize("mode", ["webhook", "stream"])
@pytest.mark.parametrize("platform", ["feishu", "dingtalk"])
def test_steps_name_the_console_of_each_platform(browser, platform, mode):
    endpoint = factories.endpoint(credential=factories.credential(platform), mode=mode)

    text = browser.get(reverse("admin:bots_endpoint_change", args=[endpoint.pk])).content.decode()

    assert {"feishu": "open.feishu.cn/app", "dingtalk": "open-dev.dingtalk.com"}[platform] in text
    assert (endpoint.webhook_url in text) == (mode == "webhook")


def test_second_enabled_endpoint_of_a_credential_is_refused_in_words(browser):
    first = factories.endpoint()

    errors = add(browser, Endpoint, {**ENDPOINT, "bot": first.bot_id, "credential": first.credential_id})

    assert "already has an enabled endpoint" in str(errors)


# -- who may talk, and which model --


def test_ids_of_who_may_talk_are_lines(browser):
    model = factories.model()
    given = {"access": "listed", "allowed_users": "ou_1\r\nou_2\r\n", "allowed_chats": "oc_1"}

    assert add(browser, Bot, {**BOT, "model": str(model.pk), **given}) == {}

    bot = Bot.objects.get()
    assert (bot.allowed_users, bot.allowed_departments, bot.allowed_chats) == (["ou_1", "ou_2"], [], ["oc_1"])


def test_a_bot_that_nobody_could_talk_to_is_refused_in_words(browser):
    model = factories.model()

    errors = add(browser, Bot, {**BOT, "model": str(model.pk), "access": "listed"})

    assert errors == {"access": ["Nobody is listed, so nobody could talk to the bot. List somebody below."]}


def test_a_model_of_another_queue_cannot_be_offered(browser):
    model, other = factories.model(), factories.model(name="other", queue="gpu2")

    errors = add(browser, Bot, {**BOT, "model": str(model.pk), "choosable_models": [str(other.pk)]})

    assert list(errors) == ["choosable_models"]
    assert errors["choosable_models"][0].startswith("other: on another worker queue")
