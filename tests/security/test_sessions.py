"""How long somebody stays signed in on a browser, and what ends that (rules A4, A12)."""

from __future__ import annotations

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from clawdbot_site.security import sessions
from clawdbot_site.security.models import User
from clawdbot_site.security.session_store import SessionStore
from clawdbot_site.settings import env as environment
from monitoring.models import AuditLog

PASSWORD = "a long password"
MINUTE_S = 60.0


@pytest.fixture
def ann(db, settings) -> User:
    settings.SESSION_IDLE_S, settings.SESSION_LIFETIME_S = 30 * 60, 12 * 3600
    return User.objects.create_superuser("ann", password=PASSWORD)


def signed_in() -> Client:
    client = Client()
    assert client.post("/admin/login/", {"username": "ann", "password": PASSWORD}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/admin/bots/bot/").status_code == 200


def wait(client: Client, seconds: float) -> None:
    """As if the last request was so long ago."""
    session = client.session
    session[sessions.KEY] |= {name: session[sessions.KEY][name] - seconds for name in ("at", "seen_at", "proved_at")}
    session.save()


def test_who_does_nothing_is_signed_out_and_it_is_audited(ann):
    client = signed_in()
    wait(client, 31 * MINUTE_S)
    assert not is_in(client)
    assert AuditLog.objects.get(action="auth.session_ended").actor_label == "ann"
    assert "auth.signed_out" not in AuditLog.objects.values_list("action", flat=True)


def test_each_request_begins_the_time_anew_until_the_lifetime_is_over(ann):
    client = signed_in()
    for _number in range(28):
        wait(client, 25 * MINUTE_S)
        assert is_in(client)
    wait(client, 25 * MINUTE_S)
    assert not is_in(client)


def test_requests_within_a_minute_write_the_session_once(ann):
    client = signed_in()
    before = client.session[sessions.KEY]
    is_in(client)
    assert client.session[sessions.KEY] == before
    wait(client, 61.0)
    is_in(client)
    assert client.session[sessions.KEY]["seen_at"] > before["seen_at"] - 1


def test_no_idle_limit_where_the_setting_says_so(ann, settings):
    settings.SESSION_IDLE_S = 0
    client = signed_in()
    wait(client, 11 * 3600.0)
    assert is_in(client)


@pytest.mark.parametrize(
    ("redis", "minutes", "hours", "wanted"),
    [
        ("", "-1", "0", (0, 14 * 86_400)),
        ("redis://x", "-1", "0", (1800, 12 * 3600)),
        ("redis://x", "0", "1", (0, 3600)),
        ("", "5", "2", (300, 7200)),
    ],
)
def test_defaults_of_the_limits(monkeypatch, redis, minutes, hours, wanted):
    for name, value in (("REDIS_URL", redis), ("SESSION_IDLE_MINUTES", minutes), ("SESSION_LIFETIME_HOURS", hours)):
        monkeypatch.setenv(name, value)
    assert (environment.session_idle_s(), environment.session_lifetime_s()) == wanted


def test_signing_out_elsewhere_ends_other_sessions_and_refresh_tokens(ann):
    mine, other = signed_in(), signed_in()
    given = {"username": "ann", "password": PASSWORD}
    refresh = APIClient().post("/api/v1/auth/token/", given, format="json").json()["refresh"]
    mine.post(reverse("admin:sign_out_elsewhere"))
    assert (is_in(mine), is_in(other)) == (True, False)
    assert APIClient().post("/api/v1/auth/token/refresh/", {"refresh": refresh}, format="json").status_code == 401
    assert AuditLog.objects.filter(action="auth.signed_out_everywhere").count() == 1


@pytest.mark.rule("A4")
def test_an_owner_signs_somebody_out_at_once(ann):
    User.objects.create_superuser("bo", password=PASSWORD)
    theirs = Client()
    theirs.post("/admin/login/", {"username": "bo", "password": PASSWORD})
    asked = {"action": "sign_out", "_selected_action": [User.objects.get(username="bo").pk]}
    signed_in().post(reverse("admin:security_user_changelist"), asked)
    assert not is_in(theirs)


def test_a_new_password_ends_all_other_sessions(ann):
    mine, other = signed_in(), signed_in()
    new = {"old_password": PASSWORD, "new_password1": "another long one", "new_password2": "another long one"}
    assert mine.post(reverse("admin:password_change"), new).status_code == 302
    assert (is_in(mine), is_in(other)) == (True, False)


@pytest.mark.rule("A4")
def test_a_disabled_account_is_out_at_the_next_request(ann):
    client = signed_in()
    User.objects.filter(pk=ann.pk).update(is_active=False)
    assert not is_in(client)


@pytest.mark.rule("E10")
def test_the_database_knows_no_key_of_a_session(ann):
    client = signed_in()
    key = client.cookies["sessionid"].value
    stored = Session.objects.get()

    assert (key in str(vars(stored)), SessionStore().exists(key), is_in(client)) == (False, True, True)
    client.cookies["sessionid"] = stored.session_key
    assert not is_in(client), "what the table tells opens nothing"
    client.cookies["sessionid"] = key
    client.post("/admin/logout/")
    assert (SessionStore().exists(key), is_in(client)) == (False, False)


@pytest.mark.django_db(transaction=True)
async def test_sessions_are_kept_the_same_way_where_nothing_may_block():
    store = SessionStore()
    store["who"] = "ann"
    await store.asave()
    again = SessionStore(store.session_key)

    assert await again.aget("who") == "ann"
    assert await again.aexists(store.session_key)
    assert not await again.aexists("unknown0")
    await again.adelete()
    assert await SessionStore(store.session_key).aget("who") is None
