"""Models, bots, credentials and endpoints: what may be written, what is shown, and to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bots.models import Bot, Chat, Conversation, Endpoint, Feedback, Message
from clawdbot_site.security.key_ring import fingerprint
from inference.models import LanguageModel
from integrations.models import PlatformCredential
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db

FEISHU = {
    "name": "Feishu app",
    "platform": "feishu",
    "app_id": "cli_1",
    "app_secret": "secret-of-the-app",
    "verification_token": "token-of-the-app",
    "encrypt_key": "key-of-the-app",
}
READ_SCOPE = {
    "models/": "bots:read",
    "model-keys/": "bots:read",
    "usage/": "messages:read",
    "bots/": "bots:read",
    "endpoints/": "bots:read",
    "credentials/": "bots:write",
    "group-robots/": "bots:write",
    "conversations/": "messages:read",
}


def fields_of(response):
    assert response.status_code == 400, response.content
    return response.json()["error"]["fields"]


# -- scopes --


@pytest.mark.parametrize(("path", "scope"), READ_SCOPE.items())
def test_a_list_is_shown_only_with_its_scope(client_with, path, scope):
    others = ["bots:read", "bots:write", "messages:read", "messages:write", "chat", "audit:read", "admin"]
    others.remove(scope)

    assert client_with(scope).get(f"/api/v1/{path}").status_code == 200
    refused = client_with(*others).get(f"/api/v1/{path}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("path", ["models/", "bots/", "credentials/", "endpoints/", "group-robots/"])
def test_writing_needs_the_scope_for_it(client_with, path):
    reader = client_with("bots:read", "messages:read", "messages:write", "chat", "audit:read", "admin")

    assert reader.post(f"/api/v1/{path}", {}).status_code == 403
    assert client_with("bots:write").post(f"/api/v1/{path}", {}).status_code == 400


@pytest.mark.parametrize("path", READ_SCOPE)
def test_nobody_is_refused_in_the_error_shape(client, path):
    response = client.get(f"/api/v1/{path}")

    assert response.status_code == 401
    assert set(response.json()["error"]) == {"code", "message", "request_id"}


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


# -- credentials --


def test_a_credentials_secrets_go_in_and_only_fingerprints_come_out(rest):
    made = rest.post("/api/v1/credentials/", FEISHU)

    assert made.status_code == 201
    shown = made.content + rest.get("/api/v1/credentials/").content
    shown += rest.patch(f"/api/v1/credentials/{made.json()['id']}/", {"name": "renamed"}).content
    for name in ("app_secret", "verification_token", "encrypt_key"):
        assert FEISHU[name] not in shown.decode()
        assert made.json()[f"{name}_fingerprint"] == fingerprint(FEISHU[name])
    assert FEISHU["app_secret"] not in json.dumps(list(AuditLog.objects.values("changes")))


def test_leaving_a_secret_out_keeps_it(rest):
    row = factories.credential(encrypt_key="kept")

    changed = rest.patch(f"/api/v1/credentials/{row.pk}/", {"name": "renamed"})

    assert changed.status_code == 200
    assert PlatformCredential.objects.get().encrypt_key == "kept"


def test_dingtalks_event_keys_come_together_and_in_their_form(rest):
    body = {"name": "Ding", "platform": "dingtalk", "app_id": "ding1", "app_secret": "s"}
    keys = {"verification_token": "exampleToken01", "encrypt_key": "a" * 43}
    wrong = {**keys, "encrypt_key": "a" * 44}

    assert list(fields_of(rest.post("/api/v1/credentials/", {**body, **wrong}))) == ["encrypt_key"]
    assert list(fields_of(rest.post("/api/v1/credentials/", {**body, "encrypt_key": "a" * 43}))) == [
        "verification_token"
    ]
    assert rest.post("/api/v1/credentials/", {**body, **keys}).status_code == 201
    path = f"/api/v1/credentials/{PlatformCredential.objects.get().pk}/"
    assert rest.patch(path, {"name": "Renamed"}).status_code == 200
    assert list(fields_of(rest.patch(path, {"encrypt_key": ""}))) == ["encrypt_key"]


def test_an_empty_secret_has_no_fingerprint(rest):
    body = {"name": "Ding", "platform": "dingtalk", "app_id": "ding1", "app_secret": "s"}
    made = rest.post("/api/v1/credentials/", body)

    assert (made.status_code, made.json()["encrypt_key_fingerprint"]) == (201, "")


def test_feishu_without_an_encrypt_key_must_be_allowed_and_is_audited(rest):
    body = {name: value for name, value in FEISHU.items() if name != "encrypt_key"}

    assert list(fields_of(rest.post("/api/v1/credentials/", body))) == ["encrypt_key"]
    assert rest.post("/api/v1/credentials/", {**body, "allow_unsigned": True}).status_code == 201
    entry = AuditLog.objects.get(action="platformcredential.created")
    assert entry.changes["allow_unsigned"]["after"] is True


def test_an_encrypt_key_cannot_be_taken_away_later(rest):
    row = factories.credential()

    assert list(fields_of(rest.patch(f"/api/v1/credentials/{row.pk}/", {"encrypt_key": ""}))) == ["encrypt_key"]


@pytest.mark.parametrize("missing", ["app_secret", "verification_token", "name", "app_id", "platform"])
def test_a_feishu_credential_needs_its_values(rest, missing):
    body = {name: value for name, value in FEISHU.items() if name != missing}

    assert missing in fields_of(rest.post("/api/v1/credentials/", body))


def test_a_second_credential_of_one_app_is_refused_in_words(rest):
    rest.post("/api/v1/credentials/", FEISHU)

    assert "already" in fields_of(rest.post("/api/v1/credentials/", FEISHU))["app_id"][0]


def test_a_credential_stays_on_its_platform(rest):
    row = factories.credential()

    assert list(fields_of(rest.patch(f"/api/v1/credentials/{row.pk}/", {"platform": "dingtalk"}))) == ["platform"]


def test_a_new_secret_makes_the_bots_own_id_unknown(rest):
    row = factories.credential(own_id="ou_bot")
    path = f"/api/v1/credentials/{row.pk}/"

    rest.patch(path, {"name": "renamed"})
    assert PlatformCredential.objects.get().own_id == "ou_bot"
    rest.patch(path, {"app_secret": "another"})
    assert PlatformCredential.objects.get().own_id == ""


def test_an_app_secret_does_not_follow_the_address_to_another_host(rest):
    row = factories.credential()
    path = f"/api/v1/credentials/{row.pk}/"

    assert list(fields_of(rest.patch(path, {"base_url": "https://thief.example"}))) == ["app_secret"]
    assert rest.patch(path, {"base_url": "https://lark.example", "app_secret": "again"}).status_code == 200


def test_a_credential_in_use_is_not_deleted(rest):
    made = factories.endpoint()

    assert rest.delete(f"/api/v1/credentials/{made.credential.pk}/").status_code == 409


# -- endpoints --


def test_an_endpoint_is_made_with_a_key_and_an_address(rest, bot):
    row = factories.credential()
    made = rest.post("/api/v1/endpoints/", {"bot": bot.slug, "credential": str(row.pk), "mode": "webhook"})

    assert made.status_code == 201
    key = Endpoint.objects.get().key
    assert made.json()["key"] == key
    assert made.json()["webhook_url"] == f"{settings.PUBLIC_URL}/webhooks/feishu/{key}/"
    assert key not in json.dumps(list(AuditLog.objects.values("changes", "target_label")))


def test_an_endpoints_key_is_hidden_from_who_may_only_read(client_with):
    made = factories.endpoint()
    path = f"/api/v1/endpoints/{made.pk}/"

    read = client_with("bots:read").get(path)
    assert (read.json()["key"], read.json()["webhook_url"]) == (None, None)
    assert made.key not in read.content.decode()
    assert client_with("bots:read", "bots:write").get(path).json()["key"] == made.key


def test_a_second_enabled_endpoint_of_a_credential_is_refused_in_words(rest):
    first = factories.endpoint()
    body = {"bot": first.bot.slug, "credential": str(first.credential.pk)}

    assert "already" in fields_of(rest.post("/api/v1/endpoints/", body))["credential"][0]
    second = rest.post("/api/v1/endpoints/", {**body, "is_enabled": False})
    assert second.status_code == 201
    path = f"/api/v1/endpoints/{second.json()['id']}/"
    assert list(fields_of(rest.patch(path, {"is_enabled": True}))) == ["credential"]
    assert rest.patch(f"/api/v1/endpoints/{first.pk}/", {"is_enabled": False}).status_code == 200
    assert rest.patch(path, {"is_enabled": True}).status_code == 200


# -- addresses and lists --


@pytest.mark.parametrize(
    "path", ["bots/%00/", "bots/no-such/", "models/nonsense/", "endpoints/" + "0" * 36 + "/", "x/"]
)
def test_what_is_not_there_is_a_404_in_the_error_shape(rest, path):
    response = rest.get(f"/api/v1/{path}")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_broken_json_is_the_callers_error(rest):
    response = rest.post("/api/v1/bots/", b"{broken", content_type="application/json")

    assert (response.status_code, response.json()["error"]["code"]) == (400, "parse_error")


MAKERS = {
    "models/": factories.model,
    "bots/": factories.bot,
    "credentials/": factories.credential,
    "endpoints/": factories.endpoint,
    "conversations/": factories.web_question,
    "chats/": lambda: Chat.objects.create(endpoint=factories.endpoint(), chat_id="oc_1"),
    "feedback/": lambda: given("up"),
}


def given(vote: str, **question: Any) -> Feedback:
    """A vote for an answer."""
    asked = factories.web_question(**question)
    reply = Message.objects.create(conversation=asked.conversation, role="assistant", reply_to=asked, text="Here.")
    return Feedback.objects.create(reply=reply, user_id="ou_1", vote=vote)


@pytest.mark.parametrize("path", MAKERS)
def test_a_list_takes_the_same_queries_for_one_row_and_three(rest, path):
    MAKERS[path]()
    rest.get(f"/api/v1/{path}")  # notes the key's use, once
    with CaptureQueriesContext(connection) as one:
        rest.get(f"/api/v1/{path}")
    for _ in range(2):
        MAKERS[path]()

    with CaptureQueriesContext(connection) as three:
        shown = rest.get(f"/api/v1/{path}").json()["results"]

    assert (len(shown), len(three)) == (3, len(one))


def test_a_list_is_newest_first_and_paged_completely(rest):
    slugs = [factories.bot().slug for _ in range(5)]

    page, seen = rest.get("/api/v1/bots/?page_size=2").json(), []
    while True:
        seen += [row["slug"] for row in page["results"]]
        if not page["next"]:
            break
        page = rest.get(page["next"]).json()

    assert seen == slugs[::-1]


# -- groups, feedback, who may talk, which model --


def test_a_group_gets_a_policy_of_its_own(rest):
    endpoint = factories.endpoint()

    made = rest.post("/api/v1/chats/", {"endpoint": str(endpoint.pk), "chat_id": "oc_1", "group_policy": "silent"})
    twice = rest.post("/api/v1/chats/", {"endpoint": str(endpoint.pk), "chat_id": "oc_1"})

    assert (made.status_code, made.json()["bot"], twice.status_code) == (201, endpoint.bot.slug, 400)
    endpoint.refresh_from_db()
    assert endpoint.chat_policies == {"oc_1": "silent"}


def test_feedback_is_filtered_and_counted_on_its_answer(rest):
    bad, _good = given("down", asked=factories.bot(slug="ada")), given("up")

    shown = rest.get("/api/v1/feedback/?vote=down&bot=ada").json()["results"]
    answer = rest.get(f"/api/v1/messages/{bad.reply_id}/").json()

    assert [(row["id"], row["vote"], row["question"]) for row in shown] == [
        (str(bad.pk), "down", str(bad.reply.reply_to_id))
    ]
    assert answer["feedback"] == {"up": 0, "down": 1}


def test_feedback_is_read_only(rest):
    path = f"/api/v1/feedback/{given('up').pk}/"

    assert [rest.patch(path, {"vote": "down"}).status_code, rest.delete(path).status_code] == [405, 405]


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


def test_a_message_names_what_came_with_it(rest):
    question = factories.web_question(details={"attachments": [{"kind": "file", "key": "secret", "name": "a.pdf"}]})

    shown = rest.get(f"/api/v1/messages/{question.pk}/").json()

    assert shown["attachments"] == [{"kind": "file", "name": "a.pdf"}]
