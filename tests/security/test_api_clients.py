"""API clients over REST and in the admin: the key is shown once, rights do not grow, revoking works at once (A5)."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import include, path, reverse
from django.utils import timezone
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from clawdbot_site.security import api
from clawdbot_site.security.models import ApiClient, User
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db

router = SimpleRouter()
api.register(router)
urlpatterns = [path("api/v1/", include(router.urls)), path("admin/", admin.site.urls)]
LIST = "/api/v1/api-clients/"


@pytest.fixture(autouse=True)
def site(settings, tmp_path):
    settings.ROOT_URLCONF, settings.STATIC_ROOT = __name__, tmp_path


def caller(*scopes: str) -> APIClient:
    """A REST client that calls with a key of these scopes."""
    _client, key = ApiClient.objects.create_key(name="caller", scopes=list(scopes))
    rest = APIClient()
    rest.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return rest


def key_of(answer) -> str:
    assert answer.status_code == 201, answer.data
    return answer.data["key"]


def opens(key: str, **extra) -> int:
    return APIClient().get(LIST, HTTP_AUTHORIZATION=f"Api-Key {key}", **extra).status_code


@pytest.mark.rule("A5")
def test_key_is_shown_once_and_works_when_a_client_is_made():
    rest = caller("admin", "chat")
    made = rest.post(LIST, {"name": "robot", "scopes": ["admin"], "networks": ["10.1.2.3/8"]})
    key = key_of(made)
    shown = "id name scopes team networks expires_at is_active prefix last_used_at created_at created_by key"
    assert list(made.data) == shown.split()
    assert key.startswith(made.data["prefix"])
    assert made.data["networks"] == ["10.0.0.0/8"]
    shown = [rest.get(f"{LIST}{made.data['id']}/").data, rest.get(LIST).data]
    shown.append(rest.patch(f"{LIST}{made.data['id']}/", {"name": "other"}).data)
    assert key not in json.dumps(shown, default=str)
    assert (opens(key, REMOTE_ADDR="10.9.9.9"), opens(key)) == (200, 401)


def test_key_is_not_in_the_audit_log_when_a_client_is_made():
    key = key_of(caller("admin").post(LIST, {"name": "robot", "scopes": ["admin"]}))
    entry = AuditLog.objects.get(action="apiclient.created")
    client = ApiClient.objects.get(name="robot")
    assert (entry.actor_kind, entry.actor_label, entry.target_id) == ("client", "caller", str(client.pk))
    assert key not in str(vars(entry))
    assert client.hashed_key not in str(vars(entry))
    assert key not in str(vars(client))


def test_deleted_client_is_refused_at_once_and_its_row_is_kept():
    rest = caller("admin")
    made = rest.post(LIST, {"name": "robot", "scopes": ["admin"]})
    assert rest.delete(f"{LIST}{made.data['id']}/").status_code == 204
    assert opens(made.data["key"]) == 401
    assert rest.get(f"{LIST}{made.data['id']}/").status_code == 404
    assert [one["name"] for one in rest.get(LIST).data["results"]] == ["caller"]
    assert ApiClient.objects.get(name="robot").revoked
    assert AuditLog.objects.filter(action="apiclient.revoked", target_label="robot").exists()


def test_client_is_refused_while_it_is_switched_off():
    rest = caller("admin")
    made = rest.post(LIST, {"name": "robot", "scopes": ["admin"]})
    seen = []
    for is_active in (False, True):
        rest.patch(f"{LIST}{made.data['id']}/", {"is_active": is_active})
        seen.append(opens(made.data["key"]))
    assert seen == [401, 200]


def test_client_is_refused_when_it_has_expired():
    made = caller("admin").post(
        LIST, {"name": "r", "scopes": ["admin"], "expires_at": timezone.now() + timedelta(hours=1)}
    )
    assert opens(key_of(made)) == 200
    ApiClient.objects.filter(name="r").update(expiry_date=timezone.now() - timedelta(seconds=1))
    assert opens(made.data["key"]) == 401


def test_scopes_beyond_the_callers_own_are_refused_when_given():
    rest = caller("admin", "bots:read")
    made = rest.post(LIST, {"name": "robot", "scopes": ["admin", "chat"]})
    assert made.status_code == 400
    assert "chat" in made.data["error"]["fields"]["scopes"][0]
    own = ApiClient.objects.get(name="caller")
    assert rest.patch(f"{LIST}{own.pk}/", {"scopes": ["admin", "bots:write"]}).status_code == 400
    assert rest.patch(f"{LIST}{own.pk}/", {"scopes": ["admin"]}).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": "admin"}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": [["admin"]]}, "scopes"),
        ({"scopes": None}, "scopes"),
        ({"networks": ["10.0.0.0/99"]}, "networks"),
        ({"networks": "10.0.0.0/8"}, "networks"),
        ({"networks": [7]}, "networks"),
        ({"name": ""}, "name"),
        ({"expires_at": "soon"}, "expires_at"),
    ],
)
def test_client_is_refused_with_the_bad_field_named(change, field):
    answer = caller("admin").post(LIST, {"name": "robot", "scopes": ["admin"], **change})
    assert answer.status_code == 400
    assert list(answer.data["error"]["fields"]) == [field]


@pytest.mark.parametrize(
    "scopes", [["bots:read"], ["chat", "audit:read", "bots:write", "messages:read", "messages:write"]]
)
def test_clients_are_closed_to_who_lacks_the_scope_admin(scopes):
    rest = caller(*scopes)
    own = ApiClient.objects.get(name="caller")
    codes = [
        rest.get(LIST).status_code,
        rest.post(LIST, {"name": "x", "scopes": scopes}).status_code,
        rest.patch(f"{LIST}{own.pk}/", {"scopes": ["admin"]}).status_code,
        rest.delete(f"{LIST}{own.pk}/").status_code,
    ]
    assert codes == [403] * 4


def test_lists_are_paged_newest_first_without_a_query_for_each(django_assert_max_num_queries):
    rest = caller("admin")
    for number in range(5):
        ApiClient.objects.create_key(name=f"c{number}", scopes=["chat"])
    with django_assert_max_num_queries(3):
        first = rest.get(LIST, {"page_size": 4}).data
    second = rest.get(first["next"]).data
    names = [one["name"] for one in [*first["results"], *second["results"]]]
    assert (names, second["next"]) == (["c4", "c3", "c2", "c1", "c0", "caller"], None)


def test_use_is_noted_but_not_with_every_call(django_assert_num_queries):
    client, _key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    client.note_use()
    client.refresh_from_db()
    assert timezone.now() - client.last_used_at < timedelta(minutes=1)
    with django_assert_num_queries(0):
        client.note_use()


def test_unknown_and_wrong_keys_cost_at_most_one_query(django_assert_max_num_queries):
    client, key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    for wrong in ("", "x", key[:-1], key + "x", f"{client.prefix}.", "\0" * 8 + ".x"):
        with django_assert_max_num_queries(1):
            assert ApiClient.objects.from_key(wrong) is None
    assert ApiClient.objects.from_key(key) == client


# -- in the admin --


def owner() -> User:
    user = User.objects.create_user("olga", password="pw", is_staff=True)
    user.groups.add(Group.objects.get(name="owner"))
    return user


def test_key_is_shown_once_in_the_admin_when_a_client_is_added():
    browser = Client()
    browser.force_login(owner())
    body = {"name": "robot", "scopes": ["chat"], "networks": "[]", "is_active": "on"}
    page = browser.post(reverse("admin:security_apiclient_add"), body, follow=True)
    client = ApiClient.objects.get(name="robot")
    key = next(word for word in page.content.decode().split() if word.startswith(f"{client.prefix}."))[:41]
    assert ApiClient.objects.from_key(key) == client
    assert client.created_by == User.objects.get(username="olga")
    again = browser.get(reverse("admin:security_apiclient_change", args=[client.pk])).content.decode()
    assert key not in again
    assert client.hashed_key not in again
    entry = AuditLog.objects.get(action="apiclient.created")
    assert key not in str(vars(entry))


def test_admin_gives_no_scope_that_its_user_lacks():
    user = User.objects.create_user("sam", password="pw", is_staff=True)
    user.groups.add(Group.objects.get(name="security"))
    browser = Client()
    browser.force_login(user)
    body = {"name": "robot", "scopes": ["bots:write"], "networks": "[]", "is_active": "on"}
    page = browser.post(reverse("admin:security_apiclient_add"), body)
    assert "scopes" in page.context["adminform"].form.errors
    assert not ApiClient.objects.exists()


def test_revoking_a_selection_ends_the_keys_and_is_audited():
    client, key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    browser = Client()
    browser.force_login(owner())
    body = {"action": "revoke", "_selected_action": [str(client.pk)]}
    assert browser.post(reverse("admin:security_apiclient_changelist"), body).status_code == 302
    assert ApiClient.objects.from_key(key) is None
    assert AuditLog.objects.filter(action="apiclient.changed", target_id=str(client.pk)).count() == 1
