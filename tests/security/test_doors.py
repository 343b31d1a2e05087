"""Every door of the site: who may come through, and that none was left open (rules A5, A7, A11, A12)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth import SESSION_KEY
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator
from rest_framework.permissions import AllowAny
from rest_framework.test import APIClient

from bots import consumers, routing
from clawdbot_site.asgi import application
from clawdbot_site.security import jwt
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.models.clients import ALL_SCOPES
from clawdbot_site.security.permissions import HasScopes, required_scope
from tests import factories

READING = ("get", "head", "options")

# -- scopes (A5) --

BOTS = ("bots:read", "bots:write")
SECRETS = ("bots:write", "bots:write")
MESSAGES = ("messages:read", "messages:write")
ADMIN = ("admin", "admin")
SCOPES: dict[str, tuple[str, str]] = {  # address -> scope to read, scope to write; the longest beginning counts
    "/api/v1/alerts/": ("audit:read", ""),
    "/api/v1/audit-logs/": ("audit:read", ""),
    "/api/v1/alerts/{id}/acknowledge/": ("", "bots:write"),
    "/api/v1/alerts/{id}/silence/": ("", "bots:write"),
    "/api/v1/api-clients/": ADMIN,
    "/api/v1/ip-rules/": ADMIN,
    "/api/v1/bots/": BOTS,
    "/api/v1/bots/{slug}/messages/": ("", "chat"),
    "/api/v1/chats/": BOTS,
    "/api/v1/models/": BOTS,
    "/api/v1/model-keys/": BOTS,
    "/api/v1/endpoints/": BOTS,
    "/api/v1/endpoints/{id}/push/": ("", "messages:write"),
    "/api/v1/credentials/": SECRETS,
    "/api/v1/group-robots/": SECRETS,
    "/api/v1/group-robots/{id}/push/": ("", "messages:write"),
    "/api/v1/conversations/": MESSAGES,
    "/api/v1/messages/": MESSAGES,
    "/api/v1/dead-letters/": MESSAGES,
    "/api/v1/feedback/": MESSAGES,
    "/api/v1/usage/": MESSAGES,
    "/api/v1/word-lists/": BOTS,
    "/api/v1/people/forget/": ("", "messages:write"),
    "/v1/chat/completions": ("", "chat"),
    "/v1/completions": ("", "chat"),
    "/v1/models": ("chat|bots:read", ""),
}
WITHOUT_SCOPE = {
    "/.well-known/jwks.json",
    "/api/v1/auth/token/",
    "/api/v1/auth/token/refresh/",
    "/api/v1/auth/token/revoke/",
    "/api/v1/hooks/{key}/",  # the key in the address is the proof
}


def operations() -> Iterator[tuple[str, str]]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    for path, described in schema["paths"].items():
        yield from ((path, method) for method in described if path not in WITHOUT_SCOPE)


def wanted(path: str, method: str) -> set[str]:
    begins = [one for one in SCOPES if path.startswith(one)]
    to_read, to_write = SCOPES[max(begins, key=len)]
    return set((to_read if method in READING else to_write).split("|"))


@pytest.mark.rule("A5")
def test_each_call_of_the_schema_wants_exactly_its_scope(db):
    callers = {}
    for scope in sorted(ALL_SCOPES):
        _client, key = ApiClient.objects.create_key(name=scope, scopes=[scope])
        callers[scope] = APIClient(HTTP_AUTHORIZATION=f"Api-Key {key}")
    wrong = []
    for path, method in operations():
        address = re.sub(r"\{\w+\}", str(uuid4()), path)
        for scope, caller in callers.items():
            status = getattr(caller, method)(address, {}, format="json").status_code
            if (status not in (401, 403)) != (scope in wanted(path, method)):
                wrong.append((method, path, scope, status))
    assert wrong == []


# -- all addresses (A7) --

OPEN = {
    "/": 302,  # leads to the admin
    "/livez": 200,
    "/readyz": 200,
    "/metrics": 200,  # by address or token: tests/monitoring/test_views.py
    "/.well-known/jwks.json": 200,
    "/api/schema/": 200,
    "/api/docs/": 200,
    "/i18n/setlang/": 302,
    "/admin/login/": 200,
    "/admin/logout/": 302,
}
OPEN_TO_POST = {"/api/v1/auth/token/", "/api/v1/auth/token/refresh/", "/api/v1/auth/token/revoke/", "/api/v1/hooks/0/"}
CATCH_ALL = {"/admin/", "/api/v1/", "/v1/"}


def addresses(patterns: Any = None, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    """(address with something in the place of each key, its view)."""
    for one in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(one.pattern).removeprefix("^").removesuffix("$")
        if hasattr(one, "url_patterns"):
            yield from addresses(one.url_patterns, route)
        else:
            plain = re.sub(r"\(\?P<\w+>monitoring[^)]*\)", "bots", route)
            yield re.sub(r"\(\?P<\w+>[^)]*\)|<[^>]+>", "0", plain), one.callback


@pytest.mark.rule("A7")
def test_every_view_of_the_api_declares_who_may_call_it():
    undeclared = []
    for address, callback in addresses():
        view = getattr(callback, "cls", None)
        if view is None:
            continue
        if view.permission_classes == [AllowAny] or address in ("/api/schema/", "/api/docs/"):
            assert address in OPEN.keys() | OPEN_TO_POST, address
            continue
        assert list(view.permission_classes) == [HasScopes], address
        served = getattr(callback, "actions", None) or dict.fromkeys(m.lower() for m in view().allowed_methods)
        for method, action in served.items():
            instance = view()
            instance.action, instance.request = action, type("Asked", (), {"auth": None})
            if method not in ("options", "head") and required_scope(instance, method.upper()) is None:
                undeclared.append((method, address))
    assert undeclared == []


@pytest.mark.rule("A7")
def test_nobody_gets_in_without_signing_in_by_any_address(db):
    wrong, anybody = [], Client()
    for address, _callback in addresses():
        for method in ("get", "post"):
            if address in OPEN_TO_POST or (address in OPEN and (method == "get" or address in ("/admin/login/",))):
                continue
            answer = getattr(anybody, method)(address)
            leads_to = answer.headers.get("Location", "")
            is_closed = answer.status_code in (401, 403, 404, 405) or leads_to.startswith(("/admin/login/", "/admin/"))
            if not is_closed:
                wrong.append((method, address, answer.status_code, leads_to))
    expected = [("post", "/", 302), ("post", "/admin/logout/", 200), ("post", "/i18n/setlang/", 302)]
    assert [one for one in wrong if one[:3] not in expected and one[1] not in OPEN] == []
    assert {address: anybody.get(address).status_code for address in OPEN} == OPEN


# -- WebSocket (A11, A4) --


@pytest.mark.rule("A7")
def test_the_only_consumer_is_the_chat():
    assert [pattern.callback.consumer_class for pattern in routing.websocket_urlpatterns] == [consumers.ChatConsumer]


def line(*, origin: str = "", cookie: str = "", query: str = "") -> WebsocketCommunicator:
    headers = [(b"host", b"localhost")]
    headers += [(b"origin", origin.encode())] if origin else []
    headers += [(b"cookie", cookie.encode())] if cookie else []
    return WebsocketCommunicator(application, f"/ws/chat/demo/{query}", headers=headers)


async def closing_code(connection: WebsocketCommunicator) -> int:
    while True:
        frame = await connection.receive_output(20)
        if frame["type"] == "websocket.close":
            return int(frame["code"])


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(consumers, "SIGN_IN_S", 0.05)


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(consumers, "SIGN_IN_S", 0.3)  # a busy machine needs longer than a moment to sign in
    monkeypatch.setattr(consumers, "RECHECK_S", 0.05)


@pytest.fixture
async def ann(transactional_db) -> User:
    def made() -> User:
        factories.bot(slug="demo")
        return User.objects.create_superuser("ann", password="x")

    return await sync_to_async(made)()


def cookie_of(user: User) -> tuple[Client, str]:
    client = Client()
    client.force_login(user)
    return client, f"sessionid={client.cookies['sessionid'].value}"


@pytest.mark.rule("A11")
async def test_a_page_of_another_site_opens_no_socket_with_the_cookie(ann):
    _client, cookie = await sync_to_async(cookie_of)(ann)
    connection = line(origin="https://evil.example", cookie=cookie)
    await connection.connect()
    assert await closing_code(connection) == 4401


@pytest.mark.rule("A11")
async def test_a_token_in_the_address_counts_for_nothing(ann, impatient):
    token = await sync_to_async(jwt.issue_access)(ann, ["chat"])
    connection = line(query=f"?token={token}&access_token={token}")
    await connection.connect()
    assert await closing_code(connection) == 4401


@pytest.mark.rule("A11")
async def test_a_socket_ends_with_its_token(ann, quick):
    issued_at = time.time() - jwt.ACCESS_LIFETIME_S - 1  # over, and within what clocks may differ
    token = await sync_to_async(jwt.issue_access)(ann, ["chat"], now=issued_at)
    connection = line()
    await connection.connect()
    await connection.send_json_to({"type": "auth", "token": token})
    assert (await connection.receive_json_from(5))["type"] == "ready"
    assert await closing_code(connection) == 4401


@pytest.mark.rule("A4", "A11")
@pytest.mark.parametrize("end", ["disabled", "signed out", "signed out everywhere", "idle"])
async def test_a_socket_of_a_page_ends_with_the_account_and_the_session(ann, quick, settings, end):
    settings.SESSION_IDLE_S = 60
    client, cookie = await sync_to_async(cookie_of)(ann)
    connection = line(origin="http://localhost", cookie=cookie)
    await connection.connect()
    assert (await connection.receive_json_from(5))["type"] == "ready"

    def ended() -> None:
        session = client.session
        if end == "disabled":
            User.objects.update(is_active=False)
        elif end == "signed out":
            client.post("/admin/logout/")
        elif end == "signed out everywhere":
            User.objects.update(sign_outs=1)
        else:
            assert session[SESSION_KEY]
            session["sign_in"] |= {"seen_at": session["sign_in"]["seen_at"] - 61}
            session.save()

    await sync_to_async(ended)()
    assert await closing_code(connection) == 4401


@pytest.mark.rule("A4", "A11")
@pytest.mark.parametrize("change", [{"is_active": False}, {"revoked": True}, {"scopes": ["bots:read"]}])
async def test_a_socket_of_a_program_ends_when_its_key_is_taken_away(ann, quick, change):
    client, _key = await sync_to_async(ApiClient.objects.create_key)(name="crm", scopes=["chat"])
    connection = line()
    await connection.connect()
    token = await sync_to_async(jwt.issue_access)(client, ["chat"])
    await connection.send_json_to({"type": "auth", "token": token})
    assert (await connection.receive_json_from(5))["type"] == "ready"
    await sync_to_async(ApiClient.objects.update)(**change)
    assert await closing_code(connection) == 4401


# -- cookies and headers (A12) --

ASK = (
    "from django.conf import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_HSTS_SECONDS)"
)


@pytest.mark.rule("A12")
@pytest.mark.parametrize(("scheme", "told"), [("https", "True True 31536000"), ("http", "False False 0")])
def test_cookies_are_secure_as_the_public_address_is(tmp_path: Path, scheme, told):
    env = {"PATH": os.environ["PATH"], "CLAWDBOT_DATA_DIR": str(tmp_path / "var")}
    env |= {
        "CLAWDBOT_PUBLIC_URL": f"{scheme}://bots.example.com",
        "DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.base",
    }
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told


@pytest.mark.rule("A12")
def test_cookies_cannot_be_read_by_scripts_nor_come_from_other_sites(db):
    User.objects.create_superuser("ann", password="x")
    client = Client()
    client.get("/admin/login/")
    client.post("/admin/login/", {"username": "ann", "password": "x"})
    for name in ("sessionid", "csrftoken"):
        cookie = client.cookies[name]
        assert (bool(cookie["httponly"]), cookie["samesite"]) == (True, "Lax")


@pytest.mark.rule("A12")
def test_forms_without_their_token_are_refused(db):
    client = Client(enforce_csrf_checks=True)
    assert client.post("/admin/login/", {"username": "ann", "password": "x"}).status_code == 403
    assert client.post("/admin/second-factor/", {"code": "000000"}).status_code == 403


@pytest.mark.rule("A12")
def test_pages_run_no_scripts_but_ours(db):
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    for path in ("/admin/", "/admin/my-sign-in/", "/admin/second-factor/set-up/", "/api/docs/", "/livez"):
        policy = dict(
            part.strip().split(" ", 1) for part in client.get(path).headers["Content-Security-Policy"].split(";")
        )
        allowed = "'self' 'unsafe-eval'" if path.startswith("/admin/") else "'self'"
        assert (policy["script-src"], policy["object-src"], policy["frame-ancestors"]) == (allowed, "'none'", "'none'")
