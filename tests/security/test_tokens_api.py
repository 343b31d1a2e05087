"""Getting, using, refreshing and revoking tokens over REST, and who is let in by them (rules A1, A2, A4, A7)."""

from __future__ import annotations

import logging

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.urls import include, path
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from clawdbot_site.security import jwt, signing_keys, sockets
from clawdbot_site.security.models import ApiClient, RefreshToken, User
from clawdbot_site.security.urls import token_urlpatterns
from clawdbot_site.security.views import jwks
from monitoring import audit
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db


class Things(ViewSet):
    required_scopes = {"read": "bots:read", "write": "bots:write", "ask": "chat"}

    def list(self, request):
        return Response({"user": request.user.get_username(), "scopes": sorted(request.auth.scopes)})

    def create(self, request):
        return Response({}, 201)

    def ask(self, request):
        return Response({})


class Undeclared(APIView):
    def get(self, request):
        return Response({})


class ReadOnly(APIView):
    required_scopes = {"read": "bots:read"}

    def get(self, request):
        return Response({})


urlpatterns = [
    path("api/v1/", include(token_urlpatterns)),
    path("api/v1/things/", Things.as_view({"get": "list", "post": "create", "put": "ask"})),
    path("v1/things/", Things.as_view({"get": "list"})),
    path("api/v1/undeclared/", Undeclared.as_view()),
    path("api/v1/read-only/", ReadOnly.as_view()),
    path(".well-known/jwks.json", jwks),
    path("router/", include(SimpleRouter().urls)),
]


@pytest.fixture(autouse=True)
def site(settings, tmp_path):
    settings.ROOT_URLCONF, settings.STATIC_ROOT = __name__, tmp_path
    cache.clear()
    signing_keys.ring.forget()
    audit.REFUSALS.clear()
    yield
    signing_keys.ring.forget()


@pytest.fixture
def user():
    user = User.objects.create_user("ada", password="correct horse")
    user.groups.add(Group.objects.get(name="operator"))
    return user


@pytest.fixture
def client_key():
    return ApiClient.objects.create_key(name="robot", scopes=["bots:read"])


def sign_in(**body):
    return APIClient().post("/api/v1/auth/token/", body or {"username": "ada", "password": "correct horse"})


def call(authorization: str = "", path: str = "/api/v1/things/", method: str = "get", **extra):
    headers = {"HTTP_AUTHORIZATION": authorization} if authorization else {}
    return getattr(APIClient(), method)(path, **headers, **extra)


def actions() -> list[tuple[str, str]]:
    return list(AuditLog.objects.order_by("created_at", "id").values_list("action", "actor_label"))


# -- signing in --


def test_password_gives_tokens_that_open_the_api(user):
    answer = sign_in()
    assert answer.status_code == 200
    assert set(answer.data) == {"access", "refresh", "expires_in"}
    assert (answer.data["expires_in"], answer.headers["Cache-Control"]) == (300, "no-store")
    shown = call(f"Bearer {answer.data['access']}")
    assert shown.data == {
        "user": "ada",
        "scopes": ["bots:read", "bots:write", "chat", "messages:read", "messages:write"],
    }
    assert actions() == [("token.issued", "ada")]


def test_api_key_gives_tokens_that_open_the_api(client_key):
    _client, key = client_key
    answer = sign_in(api_key=key)
    assert call(f"Bearer {answer.data['access']}").data == {"user": "robot", "scopes": ["bots:read"]}
    assert call(f"Api-Key {key}").data == {"user": "robot", "scopes": ["bots:read"]}
    assert actions() == [("token.issued", "robot")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "ada", "password": "wrong"}, 401),
        ({"username": "nobody", "password": "correct horse"}, 401),
        ({"username": "ADA", "password": "correct horse"}, 401),
        ({"username": "ada", "password": " correct horse "}, 401),
        ({"api_key": "abcdefgh.wrong"}, 401),
        ({"api_key": "\U0001f600"}, 401),
        ({"username": "ada"}, 400),
        ({"password": "correct horse"}, 400),
        ({"username": ["ada"], "password": {}}, 400),
        ({"nothing": 1}, 400),
    ],
)
def test_sign_in_is_refused_in_the_one_shape_when_words_are_wrong(user, body, status):
    answer = sign_in(**body)
    assert answer.status_code == status
    assert {"code", "message", "request_id"} <= set(answer.data["error"])
    assert answer.data["error"]["message"]


def test_disabled_account_gets_no_tokens(user):
    User.objects.update(is_active=False)
    assert sign_in().status_code == 401


def test_failed_sign_in_is_audited_without_the_password_or_an_unknown_name(user):
    sign_in(username="ada", password="hunter2-wrong")
    sign_in(username="my-password-typed-too-early", password="x")
    entries = list(AuditLog.objects.order_by("created_at"))
    assert [(e.action, e.reason, e.target_label) for e in entries] == [
        ("auth.failed", "wrong password", "ada"),
        ("auth.failed", "unknown account", ""),
    ]
    assert not [e for e in entries if "hunter2" in str(vars(e)) or "too-early" in str(vars(e))]


# -- what a token opens --


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer a.b.c",
        "Bearer \xff",
        "Api-Key",
        "Api-Key not-a-key",
        "Api-Key 12345678.wrong",
        "Basic YTpi",
    ],
)
def test_caller_is_refused_with_401_when_nothing_valid_is_sent(authorization):
    answer = call(authorization)
    assert answer.status_code == 401
    assert answer.data["error"]["message"]
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_api_key_counts_as_bearer_only_for_openai_clients(client_key):
    _client, key = client_key
    assert call(f"Bearer {key}", "/v1/things/").status_code == 200
    assert call(f"Bearer {key}", "/api/v1/things/").status_code == 401


def test_session_cookie_opens_nothing_here(user):
    client = APIClient()
    client.force_login(user)
    assert client.get("/api/v1/things/").status_code == 401


@pytest.mark.rule("A4")
def test_access_ends_with_the_next_request_when_the_account_is_disabled_or_loses_its_role(user):
    bearer = f"Bearer {sign_in().data['access']}"
    user.groups.clear()
    assert call(bearer).status_code == 403
    user.is_active = False
    user.save()
    assert call(bearer).status_code == 401


def test_token_gives_no_more_than_when_it_was_issued_when_roles_grow(user):
    bearer = f"Bearer {sign_in().data['access']}"
    user.is_superuser = True
    user.save()
    assert "admin" not in call(bearer).data["scopes"]


@pytest.mark.rule("A4")
@pytest.mark.parametrize("change", [{"revoked": True}, {"is_active": False}])
def test_key_and_its_tokens_end_at_once_when_it_is_taken_away(client_key, change):
    client, key = client_key
    bearer = f"Bearer {sign_in(api_key=key).data['access']}"
    ApiClient.objects.filter(pk=client.pk).update(**change)
    assert [call(bearer).status_code, call(f"Api-Key {key}").status_code, sign_in(api_key=key).status_code] == [401] * 3


@pytest.mark.rule("A5")
def test_key_is_refused_from_outside_its_networks(client_key):
    client, key = client_key
    bearer = f"Bearer {sign_in(api_key=key).data['access']}"
    client.networks = ["203.0.113.0/24"]
    client.save()
    answers = [call(bearer), call(f"Api-Key {key}"), call(f"Api-Key {key}", REMOTE_ADDR="203.0.113.9")]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    assert "address" in answers[1].data["error"]["message"]


def test_refused_callers_are_audited_once_when_they_flood(client_key):
    for _ in range(5):
        call("Api-Key 12345678.wrong")
    assert [action for action, _actor in actions()] == ["access.refused"]


def test_expired_token_is_no_event(user, monkeypatch):
    token = jwt.issue_access(user, ["bots:read"], now=1_700_000_000)
    assert call(f"Bearer {token}").status_code == 401
    assert actions() == []


# -- scopes --


def test_each_method_wants_its_own_scope(client_key):
    _client, key = client_key
    answers = [call(f"Api-Key {key}", method=method) for method in ("get", "head", "post", "put", "delete")]
    assert [answer.status_code for answer in answers] == [200, 200, 403, 403, 405]
    assert "bots:write" in answers[2].data["error"]["message"]
    assert "chat" in answers[3].data["error"]["message"]


@pytest.mark.rule("A7")
def test_view_that_declares_nothing_is_closed_to_everybody(user, caplog):
    user.is_superuser = True
    user.save()
    with caplog.at_level(logging.ERROR):
        assert call(f"Bearer {sign_in().data['access']}", "/api/v1/undeclared/").status_code == 403
    assert "required_scopes" in caplog.text


def test_read_only_view_answers_405_when_written(client_key):
    _client, key = client_key
    assert call(f"Api-Key {key}", "/api/v1/read-only/", "put").status_code == 405
    assert call("", "/api/v1/read-only/", "put").status_code == 401


# -- refresh, revoke, publish --


def refresh(token):
    return APIClient().post("/api/v1/auth/token/refresh/", {"refresh": token})


def test_refresh_gives_a_new_pair_once(user):
    first = sign_in().data
    second = refresh(first["refresh"])
    assert second.status_code == 200
    assert call(f"Bearer {second.data['access']}").status_code == 200
    assert {first["access"], first["refresh"]} & {second.data["access"], second.data["refresh"]} == set()
    again = refresh(first["refresh"])
    assert (again.status_code, refresh(second.data["refresh"]).status_code) == (401, 401)
    assert again.data["error"]["message"]


def test_refresh_follows_the_roles_when_they_changed(user):
    first = sign_in().data
    user.groups.clear()
    assert call(f"Bearer {refresh(first['refresh']).data['access']}").status_code == 403


def test_revoked_family_is_dead_and_revoking_twice_is_fine(user):
    token = sign_in().data["refresh"]
    answers = [APIClient().post("/api/v1/auth/token/revoke/", {"refresh": one}) for one in (token, token, "unknown")]
    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert refresh(token).status_code == 401
    assert ("token.revoked", "ada") in actions()


@pytest.mark.parametrize("body", [{}, {"refresh": ""}, {"refresh": None}, {"refresh": {"a": 1}}])
def test_refresh_is_a_bad_request_when_no_token_is_sent(body):
    for name in ("refresh", "revoke"):
        assert APIClient().post(f"/api/v1/auth/token/{name}/", body).status_code == 400


def test_published_keys_hold_the_tokens_key_and_no_private_half(user):
    answer = APIClient().get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert {tuple(sorted(key)) for key in answer.json()["keys"]} == {("alg", "crv", "kid", "kty", "use", "x", "y")}
    assert signing_keys.ring.signing_key()[0] in {key["kid"] for key in answer.json()["keys"]}


# -- WebSocket --


def scope_with(**headers) -> dict:
    given = {"host": "127.0.0.1:18789", **headers}
    return {
        "type": "websocket",
        "client": ("127.0.0.1", 1),
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }


HERE = "http://127.0.0.1:18789"


@pytest.mark.rule("A11")
@pytest.mark.parametrize(
    ("headers", "is_same", "is_foreign"),
    [
        ({"origin": HERE}, True, False),
        ({"origin": "https://evil.example"}, False, True),
        ({"origin": "null"}, False, True),
        ({}, False, False),
        ({"origin": "http://127.0.0.1:9999"}, False, True),
        ({"origin": "https://127.0.0.1:18789.evil.example"}, False, True),
        ({"origin": "http://evil.example", "host": "evil.example"}, False, True),
        ({"origin": "https://localhost", "host": "localhost"}, True, False),
        ({"origin": "http://[::1", "host": "localhost"}, False, True),
    ],
)
def test_origin_is_told_when_a_page_opens_a_socket(headers, is_same, is_foreign):
    scope = scope_with(**headers)
    assert (sockets.is_same_origin(scope), sockets.is_foreign_origin(scope)) == (is_same, is_foreign)


def unwrapped(asynchronous, *args):
    """Run the synchronous core here: the test's transaction is in this thread."""
    return asynchronous.func(*args)


def test_socket_token_names_its_owner_until_it_is_disabled(user):
    token = jwt.issue_access(user, ["chat"])
    principal = unwrapped(sockets.principal_from_token, token, scope_with())
    assert (principal.kind, principal.id, principal.scopes) == ("user", str(user.pk), {"chat"})
    assert principal.expires_at == jwt.verify_access(token).expires_at
    assert unwrapped(sockets.is_still_valid, principal)
    user.is_active = False
    user.save()
    assert not unwrapped(sockets.is_still_valid, principal)
    assert unwrapped(sockets.principal_from_token, token, scope_with()) is None


@pytest.mark.parametrize("token", ["", "wrong", "a.b.c"])
def test_socket_token_names_nobody_when_it_is_wrong(token):
    assert unwrapped(sockets.principal_from_token, token, scope_with()) is None


def test_socket_token_of_a_client_names_nobody_from_outside_its_networks(client_key):
    client, _key = client_key
    token = jwt.issue_access(client, client.scopes)
    assert unwrapped(sockets.principal_from_token, token, scope_with()).user.name == "robot"
    client.networks = ["203.0.113.0/24"]
    client.save()
    assert unwrapped(sockets.principal_from_token, token, scope_with()) is None


@pytest.mark.rule("A11")
def test_session_cookie_names_its_owner_only_for_a_page_of_this_site(user):
    browser = APIClient()
    browser.force_login(user)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"
    origins = [HERE, "https://evil.example", None]
    found = [
        unwrapped(sockets.principal_from_session, scope_with(cookie=cookie, **({"origin": one} if one else {})))
        for one in origins
    ]
    assert [one and one.id for one in found] == [str(user.pk), None, None]
    assert unwrapped(sockets.principal_from_session, scope_with(cookie="sessionid=x", origin=HERE)) is None


def test_family_is_forgotten_when_its_owner_is_deleted(user):
    sign_in()
    user.delete()
    assert RefreshToken.objects.count() == 0
