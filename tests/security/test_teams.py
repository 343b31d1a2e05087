"""Teams: what another team owns is not there, whichever door one tries (rule A8)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import get_resolver, reverse
from rest_framework.test import APIClient

from bots.models import Bot, Chat, Conversation, Endpoint, Feedback, Message, ModelUsage, WordList
from clawdbot_site.asgi import application
from clawdbot_site.security import teams
from clawdbot_site.security.models import ApiClient, Team, User
from clawdbot_site.security.models.clients import ALL_SCOPES
from integrations.models import GroupRobot, PlatformCredential
from tests import factories

API = "/api/v1/"


@dataclass(frozen=True, slots=True)
class Things:
    """One of everything that can belong to a team."""

    bot: Bot
    credential: PlatformCredential
    endpoint: Endpoint
    chat: Chat
    conversation: Conversation
    message: Message
    feedback: Feedback
    robot: GroupRobot
    usage: ModelUsage


def things_of(team: Team | None, name: str) -> Things:
    bot = factories.bot(team=team, slug=f"{name}-bot", name=f"{name} bot")
    credential = factories.credential(team=team, name=f"{name} app")
    endpoint = factories.endpoint(bot=bot, credential=credential)
    question = factories.web_question(bot, status="failed", text=f"{name} words")
    reply = Message.objects.create(
        conversation=question.conversation, role="assistant", reply_to=question, status="failed", text=f"{name} answer"
    )
    return Things(
        bot,
        credential,
        endpoint,
        Chat.objects.create(endpoint=endpoint, chat_id=f"oc_{name}", name=f"{name} group"),
        question.conversation,
        question,
        Feedback.objects.create(reply=reply, user_id=f"{name}-person", vote="up"),
        factories.group_robot(team=team, name=f"{name} robot"),
        ModelUsage.objects.create(day="2026-01-01", bot=bot.slug, model="m"),
    )


@pytest.fixture
def blue(db) -> Team:
    return Team.objects.create(name="blue")


@pytest.fixture
def red(db) -> Things:
    return things_of(Team.objects.create(name="crimson"), "crimson")


@pytest.fixture
def operator(blue) -> User:
    user = User.objects.create_user("opal", is_staff=True)
    user.groups.set(Group.objects.filter(name="operator"))
    blue.members.add(user)
    return user


@pytest.fixture
def browser(operator) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def program(blue) -> APIClient:
    _client, key = ApiClient.objects.create_key(name="blue", scopes=sorted(ALL_SCOPES), team=blue)
    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return caller


# -- REST --

# What stands in the address of one thing, by the first part of its route; the others belong to no team.
KEYS = {
    "bots": lambda one: one.bot.slug,
    "credentials": lambda one: one.credential.pk,
    "endpoints": lambda one: one.endpoint.pk,
    "group-robots": lambda one: one.robot.pk,
    "conversations": lambda one: one.conversation.pk,
    "messages": lambda one: one.message.pk,
    "chats": lambda one: one.chat.pk,
    "feedback": lambda one: one.feedback.pk,
}
LISTED_ONLY = {"usage", "dead-letters"}
BY_OTHER_TESTS = {"word-lists", "people"}  # hang on several bots: below
NO_TEAM = {"models", "model-keys", "ip-rules", "api-clients", "audit-logs", "alerts", "hooks", "auth"}


def routes() -> Iterator[tuple[str, str]]:
    """(method, route below /api/v1/) of every view."""
    part = next(one for one in get_resolver().url_patterns if str(one.pattern) == "api/v1/")
    for pattern in part.url_patterns:
        if (view := getattr(pattern.callback, "cls", None)) is not None:
            served = getattr(pattern.callback, "actions", None) or view().allowed_methods
            for method in sorted({name.lower() for name in served} - {"options", "head"}):
                yield method, str(pattern.pattern).removeprefix("^").removesuffix("$")


def filled(route: str, key: object) -> str:
    return API + re.sub(r"\(\?P<\w+>[^)]*\)|<\w+:\w+>", str(key), route)


def is_of_one(route: str) -> bool:
    return "<" in route


@pytest.mark.rule("A8")
def test_every_resource_says_whether_it_belongs_to_teams():
    first = {route.split("/")[0] for _method, route in routes()}
    assert first == KEYS.keys() | LISTED_ONLY | BY_OTHER_TESTS | NO_TEAM


@pytest.mark.rule("A8")
def test_what_another_team_owns_is_404_for_every_method_of_every_resource(program, red):
    wrong = []
    for method, route in routes():
        key = KEYS.get(route.split("/")[0])
        if key is None or not is_of_one(route):
            continue
        for name in (key(red), uuid4()):  # theirs is answered as what never was
            answer = getattr(program, method)(filled(route, name), {"text": "x", "chat_id": "c"}, format="json")
            if answer.status_code != 404:
                wrong.append((method, route, answer.status_code))
    assert wrong == []


@pytest.mark.rule("A8")
def test_lists_hold_ones_own_and_nobodys_and_nothing_of_others(program, red, blue):
    things_of(blue, "blue"), things_of(None, "free")
    for method, route in routes():
        first = route.split("/")[0]
        if method != "get" or is_of_one(route) or first not in KEYS.keys() | LISTED_ONLY:
            continue
        body = program.get(API + route).content.decode()
        assert len(program.get(API + route).json()["results"]) >= 2, route
        foreign = [str(getattr(red, name).pk) for name in Things.__slots__] + ["crimson"]
        assert [one for one in foreign if one in body] == [], route
    models = [one["id"] for one in program.get("/v1/models").json()["data"]]
    assert sorted(models) == ["blue-bot", "free-bot"]
    assert "crimson" not in program.get(f"{API}usage/?format=csv").content.decode()


@pytest.mark.rule("A8")
def test_other_doors_do_not_know_it_either(program, red):
    asked = {"model": red.bot.slug, "messages": [{"role": "user", "content": "x"}]}
    assert program.get(f"/v1/models/{red.bot.slug}").status_code == 404
    assert program.post("/v1/chat/completions", asked, format="json").status_code == 404
    assert program.post("/v1/completions", {"model": red.bot.slug, "prompt": "x"}, format="json").status_code == 404
    for act in ("retry", "discard"):
        body = {"ids": [str(red.message.pk)]}
        assert program.post(f"{API}dead-letters/{act}/", body, format="json").json()["done"] == []
    red.message.refresh_from_db()
    assert (red.message.status, red.message.discarded_at) == ("failed", None)


@pytest.mark.rule("A8")
def test_nothing_of_theirs_can_be_joined_to_ones_own(program, red, blue):
    own = things_of(blue, "blue")
    for body in (
        {"bot": red.bot.slug, "credential": str(own.credential.pk), "is_enabled": False},
        {"bot": own.bot.slug, "credential": str(red.credential.pk), "is_enabled": False},
    ):
        assert program.post(f"{API}endpoints/", body, format="json").status_code == 400
    moved = program.patch(f"{API}bots/{own.bot.slug}/", {"team": "crimson"}, format="json")
    chat = program.post(f"{API}chats/", {"endpoint": str(red.endpoint.pk), "chat_id": "x"}, format="json")
    assert (moved.status_code, chat.status_code) == (400, 400)


def test_a_new_bot_belongs_to_the_only_team_of_who_makes_it(program):
    body = {"slug": "new", "name": "New", "model": factories.model().name}
    assert program.post(f"{API}bots/", body, format="json").json()["team"] == "blue"
    assert program.patch(f"{API}bots/new/", {"team": None}, format="json").json()["team"] is None


def test_a_program_of_a_team_makes_no_program_that_sees_more(program, red):
    made = program.post(f"{API}api-clients/", {"name": "x", "scopes": ["chat"]}, format="json").json()
    wider = program.patch(f"{API}api-clients/{made['id']}/", {"team": None}, format="json")
    other, _key = ApiClient.objects.create_key(name="other", scopes=["chat"])
    assert (made["team"], wider.status_code) == ("blue", 400)
    assert program.get(f"{API}api-clients/{other.pk}/").status_code == 404


# -- the admin --

ADMIN_KEYS = {
    "bots.bot": "bot",
    "bots.chat": "chat",
    "bots.conversation": "conversation",
    "bots.deadletter": "message",
    "bots.endpoint": "endpoint",
    "bots.feedback": "feedback",
    "bots.message": "message",
    "bots.modelusage": "usage",
    "integrations.grouprobot": "robot",
    "integrations.platformcredential": "credential",
}
ADMIN_NO_TEAM = {"security", "auth", "inference", "monitoring", "django_celery_beat"}


@pytest.mark.rule("A8")
def test_every_model_of_the_admin_says_whether_it_belongs_to_teams():
    labels = {model._meta.label_lower for model in admin.site._registry}
    assert {one for one in labels if one.split(".")[0] not in ADMIN_NO_TEAM} == {*ADMIN_KEYS, "bots.wordlist"}


@pytest.mark.rule("A8")
@pytest.mark.parametrize("label", sorted(ADMIN_KEYS))
def test_lists_and_pages_of_the_admin_do_not_know_it(browser, blue, red, label):
    own = things_of(blue, "blue")
    thing, mine = getattr(red, ADMIN_KEYS[label]), getattr(own, ADMIN_KEYS[label])
    name = f"admin:{label.replace('.', '_')}"
    listed = browser.get(reverse(f"{name}_changelist")).content.decode()
    assert "crimson" not in listed
    assert str(thing.pk) not in listed
    assert browser.get(reverse(f"{name}_change", args=[mine.pk]), follow=True).status_code == 200
    followed = browser.get(reverse(f"{name}_change", args=[thing.pk]), follow=True)
    assert followed.status_code == 404
    assert browser.post(reverse(f"{name}_delete", args=[thing.pk]), {"post": "yes"}).status_code in (403, 404)
    assert type(thing).objects.filter(pk=thing.pk).exists()


@pytest.mark.rule("A8")
def test_other_pages_of_the_admin_do_not_know_it(browser, red):
    assert browser.get(reverse("playground-chat", args=[red.bot.slug])).status_code == 404
    assert red.bot.name not in browser.get(reverse("playground")).content.decode()
    assert "crimson" not in browser.get(reverse("admin:index")).content.decode()
    for act in ("retry", "discard", "restore"):
        browser.post(reverse(f"admin:bots_deadletter_{act}"), {"ids": [red.message.pk], "confirmed": "yes"})
    for name, thing in (("platformcredential_check", red.credential), ("grouprobot_test", red.robot)):
        assert browser.post(reverse(f"admin:integrations_{name}", args=[thing.pk])).status_code == 404
    assert "crimson" not in browser.get(reverse("admin:bots_modelusage_export")).content.decode()
    found = browser.get(
        reverse("admin:autocomplete"),
        {"app_label": "bots", "model_name": "endpoint", "field_name": "bot", "term": "crimson"},
    )
    assert found.json()["results"] == []
    red.message.refresh_from_db()
    assert (red.message.status, red.message.discarded_at) == ("failed", None)


@pytest.mark.rule("A8")
def test_forms_of_the_admin_take_no_key_of_theirs(browser, red, blue):
    own = things_of(blue, "blue")
    body = {"bot": red.bot.pk, "credential": own.credential.pk, "mode": "webhook", "unconfirmed_policy": "ask"}
    answer = browser.post(reverse("admin:bots_endpoint_add"), {**body, "rate_limit_per_minute": 0})
    assert list(answer.context["adminform"].form.errors) == ["bot"]
    page = browser.get(reverse("admin:bots_bot_change", args=[own.bot.pk]))
    assert [team.name for team in page.context["adminform"].form.fields["team"].queryset] == ["blue"]


# -- who sees what --


def account(*roles: str, **fields: Any) -> User:
    user = User.objects.create_user("-".join(roles) or "root", is_staff=True, **fields)
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


@pytest.mark.rule("A8")
@pytest.mark.parametrize(
    ("roles", "fields", "sees"),
    [
        ([], {"is_superuser": True}, {"crimson-bot", "free-bot"}),
        (["owner"], {}, {"crimson-bot", "free-bot"}),
        (["auditor"], {}, {"crimson-bot", "free-bot"}),
        (["operator"], {}, {"free-bot"}),
        (["security"], {}, {"free-bot"}),
        ([], {}, {"free-bot"}),
    ],
)
def test_owners_and_auditors_see_everything_and_others_their_teams(red, roles, fields, sees):
    things_of(None, "free")
    user = account(*roles, **fields)
    assert {bot.slug for bot in teams.visible(Bot.objects.all(), user)} == sees


def test_a_client_without_a_team_sees_everything(red):
    client, _key = ApiClient.objects.create_key(name="all", scopes=["chat"])
    assert teams.teams_of(teams.ClientPrincipal(client)) is None


def test_who_leaves_a_team_loses_sight_at_once(operator, browser, blue):
    bot = things_of(blue, "blue").bot
    page = reverse("admin:bots_bot_change", args=[bot.pk])
    assert browser.get(page).status_code == 200
    blue.members.remove(operator)
    assert browser.get(page).status_code == 404


@pytest.mark.rule("A8")
async def test_the_websocket_does_not_know_it(transactional_db):
    def prepared() -> tuple[str, str]:
        blue, red = Team.objects.create(name="blue"), Team.objects.create(name="red")
        things_of(red, "red"), things_of(blue, "blue")
        user = account("operator")
        blue.members.add(user)
        client = Client()
        client.force_login(user)
        return "sessionid", client.cookies["sessionid"].value

    name, value = await sync_to_async(prepared)()
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"cookie", f"{name}={value}".encode())]
    frames = []
    for slug in ("blue-bot", "red-bot"):
        line = WebsocketCommunicator(application, f"/ws/chat/{slug}/", headers=headers)
        await line.connect()
        frames.append(await line.receive_json_from())
        await line.disconnect()
    assert [frame.get("code", frame["type"]) for frame in frames] == ["ready", "not_found"]


@pytest.mark.rule("A8")
def test_word_lists_of_another_teams_bots_are_not_there(program, browser, red):
    theirs, mine = WordList.objects.create(name="crimson", text="x"), WordList.objects.create(name="azure", text="x")
    theirs.bots.add(red.bot)
    listed = [row["name"] for row in program.get(f"{API}word-lists/").json()["results"]]
    assert listed == ["azure"]
    assert program.get(f"{API}word-lists/{theirs.pk}/").status_code == 404
    assert program.patch(f"{API}word-lists/{mine.pk}/", {"bots": [red.bot.slug]}, format="json").status_code == 400
    assert "crimson" not in browser.get(reverse("admin:bots_wordlist_changelist")).content.decode()


@pytest.mark.rule("A8")
def test_who_wrote_to_another_teams_bot_is_forgotten_by_nobody_of_this_team(program, red):
    conversation = red.conversation
    conversation.user_id = "ou_crimson"
    conversation.save(update_fields=["user_id"])
    person = {"platform": conversation.platform, "user_id": "ou_crimson"}
    assert program.post(f"{API}people/forget/", person, format="json").status_code == 403
    assert Conversation.objects.filter(pk=conversation.pk, user_id="ou_crimson").exists()
