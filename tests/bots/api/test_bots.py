"""Bots and their models over REST: what may be written, and what is shown."""

from __future__ import annotations

import pytest

from bots.models import Bot, Conversation
from clawdbot_site.security.key_ring import fingerprint
from inference.models import LanguageModel
from monitoring.models import AuditLog
from tests import factories

from .conftest import fields_of

pytestmark = pytest.mark.django_db


# -- models --


def test_a_model_of_a_service_needs_its_address(rest):
    errors = fields_of(rest.post("/api/v1/models/", {"name": "m", "engine": "openai"}))

    assert list(errors) == ["base_url"]


def test_a_local_model_needs_its_folder(rest):
    errors = fields_of(rest.post("/api/v1/models/", {"name": "m", "engine": "transformers"}))

    assert list(errors) == ["path"]


def test_a_model_at_a_private_address_is_refused_with_the_guards_words(rest, settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = []
    body = {"name": "m", "engine": "openai", "base_url": "http://10.1.2.3/v1"}

    assert "OUTBOUND_ALLOWED_NETWORKS" in fields_of(rest.post("/api/v1/models/", body))["base_url"][0]


def test_a_models_key_goes_in_and_only_its_fingerprint_comes_out(rest):
    body = {"name": "m", "engine": "openai", "base_url": "https://models.example/v1", "api_key": "sk-canary"}
    made = rest.post("/api/v1/models/", body)

    assert made.status_code == 201
    assert made.json()["api_key_fingerprint"] == fingerprint("sk-canary")
    assert LanguageModel.objects.get().api_key == "sk-canary"
    assert "sk-canary" not in made.content.decode() + rest.get("/api/v1/models/").content.decode()


def test_a_models_key_does_not_follow_its_address_to_another_host(rest):
    row = factories.model(name="m", engine="openai", base_url="https://models.example/v1", api_key="sk-canary")
    path = f"/api/v1/models/{row.pk}/"

    assert list(fields_of(rest.patch(path, {"base_url": "https://thief.example/v1"}))) == ["api_key"]
    assert rest.patch(path, {"base_url": "https://models.example/v2"}).status_code == 200
    assert rest.patch(path, {"base_url": "https://new.example/v1", "api_key": "sk-new"}).status_code == 200


def test_a_model_that_a_bot_uses_is_not_deleted(rest, bot):
    response = rest.delete(f"/api/v1/models/{bot.model.pk}/")

    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")
    assert "Helper" in response.json()["error"]["message"]


# -- bots --


def test_a_bot_is_made_read_changed_and_deleted(rest):
    factories.model(name="m")
    body = {"slug": "new", "name": "New", "model": "m", "temperature": 0.5, "allowed_link_hosts": ["docs.example"]}

    made = rest.post("/api/v1/bots/", body)
    assert made.status_code == 201
    assert made.json() == rest.get("/api/v1/bots/new/").json()
    assert {name: made.json()[name] for name in body} == body
    assert made.json()["endpoints_count"] == made.json()["conversations_count"] == 0

    assert rest.patch("/api/v1/bots/new/", {"name": "新名字"}).json()["name"] == "新名字"
    assert rest.delete("/api/v1/bots/new/").status_code == 204
    assert rest.get("/api/v1/bots/new/").status_code == 404
    actions = AuditLog.objects.filter(action__startswith="bot.").order_by("created_at", "id")
    assert [entry.action for entry in actions] == ["bot.created", "bot.changed", "bot.deleted"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 99),
        ("top_p", 0),
        ("max_tokens", -1),
        ("context_scope", "world"),
        ("group_policy", "some"),
        ("reply_mode", "fax"),
        ("model", "no-such-model"),
        ("slug", "bad slug!"),
        ("too_late_after_s", 1),
        ("allowed_link_hosts", ["https://docs.example/"]),
        ("rate_limit_per_user_per_minute", -5),
    ],
)
def test_a_bad_value_of_a_bot_is_named(rest, field, value):
    factories.model(name="m")
    body = {"slug": "new", "name": "New", "model": "m", field: value}

    assert list(fields_of(rest.post("/api/v1/bots/", body))) == [field]


def test_a_second_bot_with_the_same_slug_is_refused(rest, bot):
    body = {"slug": bot.slug, "name": "x", "model": bot.model.name}

    assert list(fields_of(rest.post("/api/v1/bots/", body))) == ["slug"]


def test_deleting_a_bot_deletes_its_conversations(rest, bot):
    factories.web_question(bot)

    rest.delete(f"/api/v1/bots/{bot.slug}/")

    assert (Bot.objects.count(), Conversation.objects.count()) == (0, 0)


def test_a_bot_counts_its_endpoints_and_conversations(rest, bot):
    for _ in range(2):
        factories.endpoint(bot=bot)
    for _ in range(3):
        factories.web_question(bot)

    read = rest.get(f"/api/v1/bots/{bot.slug}/").json()

    assert (read["endpoints_count"], read["conversations_count"]) == (2, 3)


def test_who_may_talk_and_which_models_are_offered(rest):
    bot, fast = factories.bot(), factories.model(name="fast")
    wanted = {"access": "listed", "allowed_users": ["ou_1"], "choosable_models": ["fast"]}

    changed = rest.patch(f"/api/v1/bots/{bot.slug}/", wanted).json()

    assert {name: changed[name] for name in wanted} == wanted
    assert list(bot.choosable_models.all()) == [fast]


def test_a_model_of_another_queue_is_refused_in_words(rest):
    bot = factories.bot()
    factories.model(name="elsewhere", queue="gpu2")

    refused = rest.patch(f"/api/v1/bots/{bot.slug}/", {"choosable_models": ["elsewhere"]})

    assert fields_of(refused)["choosable_models"][0].startswith("elsewhere: on another worker queue")
