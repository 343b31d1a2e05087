"""Credentials over REST, and the endpoints and groups on them: what may be written, and what is shown to whom."""

from __future__ import annotations

import json

import pytest
from django.conf import settings

from bots.models import Endpoint
from clawdbot_site.security.key_ring import fingerprint
from integrations.models import PlatformCredential
from monitoring.models import AuditLog
from tests import factories

from .conftest import fields_of

pytestmark = pytest.mark.django_db
FEISHU = {
    "name": "Feishu app",
    "platform": "feishu",
    "app_id": "cli_1",
    "app_secret": "secret-of-the-app",
    "verification_token": "token-of-the-app",
    "encrypt_key": "key-of-the-app",
}


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


def test_a_group_gets_a_policy_of_its_own(rest):
    endpoint = factories.endpoint()

    made = rest.post("/api/v1/chats/", {"endpoint": str(endpoint.pk), "chat_id": "oc_1", "group_policy": "silent"})
    twice = rest.post("/api/v1/chats/", {"endpoint": str(endpoint.pk), "chat_id": "oc_1"})

    assert (made.status_code, made.json()["bot"], twice.status_code) == (201, endpoint.bot.slug, 400)
    endpoint.refresh_from_db()
    assert endpoint.chat_policies == {"oc_1": "silent"}
