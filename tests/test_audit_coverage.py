"""Rule U1: every way to change something leaves an entry. Walks all addresses of REST and all of the admin.

A new address or action is not in the tables below, and fails here until it is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from rest_framework.test import APIClient

from bots import doorbell
from bots.models import Chat, Message, WordList
from clawdbot_site.security.models import ApiClient, IPRule, SecondFactor, Team
from clawdbot_site.security.models.clients import ALL_SCOPES
from inference.models import LanguageModel, ModelKey
from integrations import credential_check
from integrations.models import PlatformCredential
from monitoring import audit
from monitoring.admin import AuditedModelAdmin
from monitoring.models import Alert, AlertChannel, AlertRule, AuditLog, Silence
from tests import factories

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "correct horse battery staple"
API = "/api/v1/"
# They store a question, and what the bot did with it is recorded when it is settled: tests/bots/test_recording.py.
QUESTIONS = {
    "POST hooks/<str:key>/",
    "POST bots/<slug:slug>/messages/",
    "POST /v1/chat/completions",
    "POST /v1/completions",
}


@pytest.fixture(autouse=True)
def quiet(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker, no platform, no static files; and nothing was counted before."""
    settings.WHITENOISE_AUTOREFRESH = True
    monkeypatch.setattr(doorbell, "ring", lambda *args, **more: None)
    monkeypatch.setattr(credential_check, "findings", lambda credential: [], raising=False)
    audit.READS.clear()
    audit.REFUSALS.clear()


@pytest.fixture
def key(db: None) -> str:
    return str(ApiClient.objects.create_key(name="integrator", scopes=list(ALL_SCOPES))[1])


@pytest.fixture
def rest(key: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client


@pytest.fixture
def root(db: None) -> Any:
    return get_user_model().objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def browser(root: Any) -> Client:
    client = Client()
    client.force_login(root)
    return client


def actions() -> list[str]:
    return list(AuditLog.objects.order_by("id").values_list("action", flat=True))


# -- the code --

DOORS = ("bots/api", "bots/admin", "monitoring/admin", "inference/admin.py", "integrations/admin.py")
DOORS += ("clawdbot_site/security/admin.py", "clawdbot_site/security/api.py", "clawdbot_site/security/views.py")
DOORS += ("clawdbot_site/security/network_admin.py", "clawdbot_site/security/network_api.py")
DOORS += ("monitoring/configuration",)
PAST_THE_LOG = {"update", "bulk_update", "bulk_create", "update_or_create", "_raw_delete", "raw", "execute"}


@pytest.mark.rule("U10")
def test_no_door_changes_rows_past_the_audit_log():
    """Rule U10: bulk calls of the ORM write no entries, so what people reach goes through the audited base classes."""
    files = [
        file for door in DOORS for file in ([ROOT / door] if door.endswith(".py") else (ROOT / door).rglob("*.py"))
    ]
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PAST_THE_LOG
        if ".objects" in ast.unparse(node.func) or "queryset" in ast.unparse(node.func)
    ]

    assert found == []


# -- REST --


@dataclass(frozen=True, slots=True)
class Case:
    """A call that works: its address and body, made at the time, and the entry that it must leave."""

    make: Callable[[], tuple[str, dict[str, Any]]]
    action: str


def dead() -> Message:
    return factories.web_question(status="failed", error="no power")


def pushed() -> tuple[str, dict[str, Any]]:
    return f"{API}endpoints/{factories.endpoint().pk}/push/", {"chat_id": "oc_1", "text": "News"}


def credential_fields(number: int = 1) -> dict[str, Any]:
    secrets = {"app_secret": "a-secret", "verification_token": "a-token", "encrypt_key": "a-key"}
    return {"name": f"App {number}", "platform": "feishu", "app_id": f"cli_new_{number}", **secrets}


def rule() -> IPRule:
    return IPRule.objects.create(action="block", network="198.51.100.0/24", scope="site")


def client_row() -> ApiClient:
    return ApiClient.objects.create_key(name="other", scopes=["chat"])[0]


def at(path: str, pk: Any, /, **body: Any) -> tuple[str, dict[str, Any]]:
    return f"{API}{path}/{pk}/", body


def unreachable() -> PlatformCredential:
    return factories.credential(base_url="http://127.0.0.1:9")


def changing() -> PlatformCredential:
    """A new token stands beside the old one; no callback has proved it."""
    row = unreachable()
    row.next_verification_token, row.next_entered_at = "new-token", timezone.now()
    row.save()
    return row


def bot_fields() -> dict[str, Any]:
    return {"slug": "new-bot", "name": "New", "model": factories.model().name}


def endpoint_fields() -> dict[str, Any]:
    return {"bot": factories.bot().slug, "credential": str(factories.credential().pk)}


def chat() -> Chat:
    return Chat.objects.create(endpoint=factories.endpoint(), chat_id="oc_1", name="Sales")


def chat_fields() -> dict[str, Any]:
    return {"endpoint": str(factories.endpoint().pk), "chat_id": "oc_2", "name": "Support", "group_policy": "all"}


def service_model() -> LanguageModel:
    return factories.model(engine="openai", base_url="https://llm.example.com/v1", model="m", api_key="sk-1")


def alert() -> Alert:
    return Alert.objects.create(rule="machine.cpu", subject="host", severity="warning", summary="busy")


def silence() -> Silence:
    return Silence.objects.create(rule="machine.cpu", until=timezone.now() + timedelta(hours=1), reason="known")


def channel() -> AlertChannel:
    row = AlertChannel(name="Operators", kind="email")
    row.put("operators@example.com", "")
    row.save()
    return row


def word_list() -> WordList:
    return WordList.objects.create(name="some", text="bad")


def model_key() -> ModelKey:
    return ModelKey.objects.create(model=service_model(), key="sk-2")


ROBOT = {
    "name": "Alerts",
    "platform": "dingtalk",
    "webhook_url": "https://oapi.dingtalk.com/robot/send?access_token=exampletoken0123456789",
}
UUID, PK = "(?P<pk>[0-9a-fA-F-]{32,36})", "(?P<pk>[^/.]+)"
RULE = {"action": "block", "network": "203.0.113.0/24", "scope": "site"}
CLIENT = {"name": "crm", "scopes": ["chat"]}
MODEL = {"name": "echo-new", "engine": "echo"}
WORDS = {"name": "new list", "text": "bad"}
CASES: dict[str, Case] = {
    "POST models/": Case(lambda: (f"{API}models/", MODEL), "languagemodel.created"),
    f"PUT models/{UUID}/": Case(lambda: at("models", factories.model().pk, **MODEL), "languagemodel.changed"),
    f"PATCH models/{UUID}/": Case(lambda: at("models", factories.model().pk, name="x"), "languagemodel.changed"),
    f"DELETE models/{UUID}/": Case(lambda: at("models", factories.model().pk), "languagemodel.deleted"),
    "POST bots/": Case(lambda: (f"{API}bots/", bot_fields()), "bot.created"),
    "PUT bots/(?P<slug>[-a-zA-Z0-9_]+)/": Case(lambda: at("bots", factories.bot().slug, **bot_fields()), "bot.changed"),
    "PATCH bots/(?P<slug>[-a-zA-Z0-9_]+)/": Case(lambda: at("bots", factories.bot().slug, name="x"), "bot.changed"),
    "DELETE bots/(?P<slug>[-a-zA-Z0-9_]+)/": Case(lambda: at("bots", factories.bot().slug), "bot.deleted"),
    "POST credentials/": Case(lambda: (f"{API}credentials/", credential_fields()), "platformcredential.created"),
    f"PUT credentials/{UUID}/": Case(
        lambda: at("credentials", factories.credential().pk, **credential_fields(2)), "platformcredential.changed"
    ),
    f"PATCH credentials/{UUID}/": Case(
        lambda: at("credentials", factories.credential().pk, name="x"), "platformcredential.changed"
    ),
    f"DELETE credentials/{UUID}/": Case(
        lambda: at("credentials", factories.credential().pk), "platformcredential.deleted"
    ),
    f"POST credentials/{UUID}/check/": Case(
        lambda: (f"{API}credentials/{factories.credential(base_url='http://127.0.0.1:9').pk}/check/", {}),
        "credential.checked",
    ),
    f"POST credentials/{UUID}/new-secret/": Case(
        lambda: at(f"credentials/{unreachable().pk}", "new-secret", app_secret="new"), "credential.secret_entered"
    ),
    f"DELETE credentials/{UUID}/new-secret/": Case(
        lambda: at(f"credentials/{changing().pk}", "new-secret"), "credential.secret_withdrawn"
    ),
    f"POST credentials/{UUID}/try-new-secret/": Case(
        lambda: at(f"credentials/{changing().pk}", "try-new-secret"), "credential.secret_tried"
    ),
    f"POST credentials/{UUID}/retire-old-secret/": Case(
        lambda: at(f"credentials/{changing().pk}", "retire-old-secret", even_unproved=True),
        "credential.secret_retired",
    ),
    "POST endpoints/": Case(lambda: (f"{API}endpoints/", endpoint_fields()), "endpoint.created"),
    f"PUT endpoints/{UUID}/": Case(
        lambda: at("endpoints", factories.endpoint().pk, **endpoint_fields()), "endpoint.changed"
    ),
    f"PATCH endpoints/{UUID}/": Case(
        lambda: at("endpoints", factories.endpoint().pk, is_enabled=False), "endpoint.changed"
    ),
    f"DELETE endpoints/{UUID}/": Case(lambda: at("endpoints", factories.endpoint().pk), "endpoint.deleted"),
    "POST endpoints/<uuid:pk>/push/": Case(pushed, "message.pushed"),
    f"POST alerts/{UUID}/acknowledge/": Case(
        lambda: (f"{API}alerts/{alert().pk}/acknowledge/", {}), "alert.acknowledged"
    ),
    f"POST alerts/{UUID}/silence/": Case(
        lambda: (
            f"{API}alerts/{alert().pk}/silence/",
            {"until": timezone.now() + timedelta(hours=1), "reason": "known"},
        ),
        "silence.created",
    ),
    f"POST messages/{UUID}/discard/": Case(lambda: (f"{API}messages/{dead().pk}/discard/", {}), "message.discarded"),
    f"POST messages/{UUID}/restore/": Case(lambda: (f"{API}messages/{put_away().pk}/restore/", {}), "message.restored"),
    f"POST messages/{UUID}/retry/": Case(lambda: (f"{API}messages/{dead().pk}/retry/", {}), "message.retried"),
    "POST dead-letters/discard/": Case(
        lambda: (f"{API}dead-letters/discard/", {"ids": [str(dead().pk)]}), "message.discarded"
    ),
    "POST dead-letters/retry/": Case(
        lambda: (f"{API}dead-letters/retry/", {"ids": [str(dead().pk)]}), "message.retried"
    ),
    "POST ip-rules/": Case(lambda: (f"{API}ip-rules/", RULE), "iprule.created"),
    "POST ip-rules/import/": Case(lambda: (f"{API}ip-rules/import/", {"text": "203.0.113.0/24"}), "iprule.imported"),
    f"PUT ip-rules/{PK}/": Case(lambda: at("ip-rules", rule().pk, **RULE), "iprule.changed"),
    f"PATCH ip-rules/{PK}/": Case(lambda: at("ip-rules", rule().pk, note="x"), "iprule.changed"),
    f"DELETE ip-rules/{PK}/": Case(lambda: at("ip-rules", rule().pk), "iprule.deleted"),
    "POST api-clients/": Case(lambda: (f"{API}api-clients/", CLIENT), "apiclient.created"),
    f"PUT api-clients/{PK}/": Case(lambda: at("api-clients", client_row().pk, **CLIENT), "apiclient.changed"),
    f"PATCH api-clients/{PK}/": Case(lambda: at("api-clients", client_row().pk, name="x"), "apiclient.changed"),
    f"DELETE api-clients/{PK}/": Case(lambda: at("api-clients", client_row().pk), "apiclient.revoked"),
}
CASES |= {
    "POST chats/": Case(lambda: (f"{API}chats/", chat_fields()), "chat.created"),
    f"PUT chats/{UUID}/": Case(lambda: at("chats", chat().pk, **chat_fields()), "chat.changed"),
    f"PATCH chats/{UUID}/": Case(lambda: at("chats", chat().pk, name="x"), "chat.changed"),
    f"DELETE chats/{UUID}/": Case(lambda: at("chats", chat().pk), "chat.deleted"),
    "POST group-robots/": Case(lambda: (f"{API}group-robots/", ROBOT), "grouprobot.created"),
    f"PUT group-robots/{UUID}/": Case(
        lambda: at("group-robots", factories.group_robot().pk, **ROBOT), "grouprobot.changed"
    ),
    f"PATCH group-robots/{UUID}/": Case(
        lambda: at("group-robots", factories.group_robot().pk, name="x"), "grouprobot.changed"
    ),
    f"DELETE group-robots/{UUID}/": Case(lambda: at("group-robots", factories.group_robot().pk), "grouprobot.deleted"),
    "POST model-keys/": Case(
        lambda: (f"{API}model-keys/", {"model": service_model().name, "key": "sk-2"}), "modelkey.created"
    ),
    f"PUT model-keys/{UUID}/": Case(
        lambda: at("model-keys", (row := model_key()).pk, model=row.model.name, key="sk-3"), "modelkey.changed"
    ),
    f"PATCH model-keys/{UUID}/": Case(lambda: at("model-keys", model_key().pk, is_enabled=False), "modelkey.changed"),
    f"DELETE model-keys/{UUID}/": Case(lambda: at("model-keys", model_key().pk), "modelkey.deleted"),
    f"POST models/{UUID}/check/": Case(
        lambda: (f"{API}models/{factories.model().pk}/check/", {}), "languagemodel.checked"
    ),
    f"POST models/{UUID}/accept-files/": Case(
        lambda: (f"{API}models/{factories.model().pk}/accept-files/", {}), "languagemodel.files_accepted"
    ),
}
CASES |= {
    "POST people/forget/": Case(
        lambda: (f"{API}people/forget/", {"platform": "feishu", "user_id": "ou_1"}), "person.forgotten"
    ),
    "POST word-lists/": Case(lambda: (f"{API}word-lists/", WORDS), "wordlist.created"),
    f"PUT word-lists/{UUID}/": Case(lambda: at("word-lists", word_list().pk, **WORDS), "wordlist.changed"),
    f"PATCH word-lists/{UUID}/": Case(lambda: at("word-lists", word_list().pk, note="x"), "wordlist.changed"),
    f"DELETE word-lists/{UUID}/": Case(lambda: at("word-lists", word_list().pk), "wordlist.deleted"),
    f"POST word-lists/{UUID}/try/": Case(
        lambda: (f"{API}word-lists/{word_list().pk}/try/", {"text": "bad"}), "wordlist.tried"
    ),
}
SENT = {f"POST group-robots/{UUID}/push/"}  # needs a platform: tests/bots/api/test_group_robots.py
TOKENS = {"POST auth/token/", "POST auth/token/refresh/", "POST auth/token/revoke/"}


def someone_with_a_second_factor() -> Any:
    user = get_user_model().objects.create_user(f"somebody-{get_user_model().objects.count()}")
    SecondFactor.objects.create(id=user.pk, user=user, confirmed_at=user.date_joined)
    return user


def put_away() -> Message:
    message = dead()
    message.discarded_at = message.received_at
    message.save()
    return message


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, route) of everything outside the admin that takes more than reading."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            if not route.startswith("admin/"):
                yield from routes(pattern.url_patterns, route)
        elif (view := getattr(pattern.callback, "cls", None)) is not None:
            served = getattr(pattern.callback, "actions", None) or view().allowed_methods
            for method in sorted({name.upper() for name in served} & {"POST", "PUT", "PATCH", "DELETE"}):
                yield method, route


def named(method: str, route: str) -> str:
    """As the tables name it: without the prefix and the marks of a pattern."""
    short = route.removeprefix("api/v1/") if route.startswith("api/v1/") else f"/{route}"
    return f"{method} {short.removeprefix('^').removesuffix('$')}"


@pytest.mark.rule("U1")
def test_every_address_that_changes_something_is_in_the_table():
    assert {named(*one) for one in routes()} == {*CASES, *QUESTIONS, *TOKENS, *SENT}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.rule("U1")
def test_a_change_by_rest_leaves_its_entry(rest, name):
    case = CASES[name]
    address, body = case.make()
    before = len(actions())

    answer = getattr(rest, name.partition(" ")[0].lower())(address, body)

    assert answer.status_code < 300, answer.content
    assert case.action in actions()[before:]


@pytest.mark.rule("U1")
def test_getting_changing_and_ending_tokens_leaves_entries(rest, key):
    rest.credentials()
    pair = rest.post(f"{API}auth/token/", {"api_key": key}).json()
    fresh = rest.post(f"{API}auth/token/refresh/", {"refresh": pair["refresh"]}).json()
    rest.post(f"{API}auth/token/refresh/", {"refresh": pair["refresh"]})
    again = rest.post(f"{API}auth/token/", {"api_key": key}).json()
    rest.post(f"{API}auth/token/revoke/", {"refresh": again["refresh"]})
    assert fresh

    assert [name for name in actions() if name.startswith("token.")] == [
        "token.issued",
        "token.reused",
        "token.refused",
        "token.issued",
        "token.revoked",
    ]


@pytest.mark.rule("U1")
def test_reading_an_endpoints_secret_address_leaves_an_entry(rest):
    endpoint = factories.endpoint()
    rest.get(f"{API}endpoints/{endpoint.pk}/")
    rest.get(f"{API}endpoints/")

    read = (
        AuditLog.objects.filter(action="endpoint.address_read").order_by("id").values_list("target_id", "target_label")
    )
    assert list(read) == [(str(endpoint.pk), str(endpoint)), ("", "list")]


# -- the admin --

Row = Callable[[], Any]
ROWS: dict[str, Row] = {
    "security.user": lambda: someone_with_a_second_factor(),
    "auth.group": lambda: Group.objects.create(name="some"),
    "security.team": lambda: Team.objects.create(name="some"),
    "security.iprule": rule,
    "security.apiclient": client_row,
    "inference.languagemodel": factories.model,
    "integrations.grouprobot": factories.group_robot,
    "bots.chat": chat,
    "integrations.platformcredential": lambda: factories.credential(base_url="http://127.0.0.1:9"),
    "bots.endpoint": factories.endpoint,
    "bots.bot": lambda: factories.bot(is_enabled=True),
    "monitoring.alertchannel": channel,
    "monitoring.alertrule": lambda: AlertRule.objects.get_or_create(name="machine.cpu")[0],
    "monitoring.silence": silence,
    "bots.wordlist": word_list,
    "bots.deadletter": dead,
    "bots.message": dead,
    "django_celery_beat.periodictask": lambda: PeriodicTask.objects.create(
        name="some", task="bots.tasks.sweep", interval=IntervalSchedule.objects.create(every=1, period="days")
    ),
}
# Actions that only open a page, on which somebody then confirms.
ASKS_FIRST = {("bots.deadletter", "discard_chosen"): "admin:bots_deadletter_discard"}
NEEDS_ANOTHER_STATE: dict[tuple[str, str], Callable[[], Any]] = {
    ("bots.deadletter", "restore_chosen"): lambda: put_away(),
    ("bots.bot", "enable"): lambda: factories.bot(is_enabled=False),
    ("bots.deadletter", "send_chosen_again"): lambda: unconfirmed(),
    ("bots.message", "send_again"): lambda: unconfirmed(),
}
ACTED_ON = {"monitoring.alert": alert}  # nobody changes a row by a form, and yet there are actions
READ_ONLY = {"monitoring.auditlog", "monitoring.alert", "security.signingkey", "bots.conversation"}
READ_ONLY |= {"bots.feedback", "bots.modelusage", "monitoring.alertnotice"}


def unconfirmed() -> Message:
    question = factories.web_question(status="unconfirmed")
    Message.objects.create(
        conversation=question.conversation,
        role="assistant",
        reply_to=question,
        status="unconfirmed",
        text="Hello",
        answered_at=question.received_at,
    )
    return question


def page(label: str, name: str, *args: Any) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_{name}", args=args)


def offered() -> list[tuple[str, str]]:
    """(model, action) of all actions on a selection that a superuser is offered."""
    request = RequestFactory().get("/")
    request.user = get_user_model()(username="root", is_superuser=True, is_staff=True, is_active=True)
    found = []
    for model, its_admin in admin.site._registry.items():
        names = its_admin.get_actions(request)
        found += [(model._meta.label_lower, name) for name in names]
    return found


def test_every_model_of_the_admin_is_in_the_table():
    models = {model._meta.label_lower for model in admin.site._registry}

    assert models == ROWS.keys() | READ_ONLY


def test_whatever_the_admin_can_change_is_audited(browser):
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get()
    for model, its_admin in admin.site._registry.items():
        may_write = (
            its_admin.has_add_permission(request),
            its_admin.has_change_permission(request),
            its_admin.has_delete_permission(request),
        )
        assert isinstance(its_admin, AuditedModelAdmin) or not any(may_write), model


@pytest.mark.rule("U1")
def test_every_action_of_the_admin_leaves_an_entry(browser):
    """In one test: what is offered is known only when the admin is loaded."""
    silent = []
    for label, name in offered():
        row = NEEDS_ANOTHER_STATE.get((label, name), {**ROWS, **ACTED_ON}[label])()
        before = len(actions())
        address = page(label, "changelist") + ("?discarded=yes" if name == "restore_chosen" else "")
        answer = browser.post(address, {"action": name, "_selected_action": [row.pk], "post": "yes"})
        if (label, name) in ASKS_FIRST:
            asked = {"ids": [row.pk], "back": page(label, "changelist"), "confirmed": "yes"}
            answer = browser.post(reverse(ASKS_FIRST[label, name]), asked)
        assert answer.status_code in (200, 302), (label, name)
        written = [one for one in actions()[before:] if not one.endswith((".read", ".listed"))]
        if not written:
            silent.append((label, name))

    assert silent == []


@pytest.mark.parametrize("label", sorted(ROWS.keys() - {"bots.message", "bots.deadletter"}))
@pytest.mark.rule("U1")
def test_deleting_in_the_admin_leaves_an_entry(browser, label):
    row = ROWS[label]()
    before = len(actions())

    answer = browser.post(page(label, "delete", row.pk), {"post": "yes"})

    if answer.status_code == 403:  # this one is not deleted by hand
        assert type(row).objects.filter(pk=row.pk).exists()
        return
    assert f"{label.partition('.')[2]}.deleted" in actions()[before:]


def test_passwords_leave_entries_when_changed(browser, root):
    somebody = get_user_model().objects.create_user("somebody")
    new = {"password1": "another long password", "password2": "another long password", "usable_password": "true"}
    browser.post(f"/admin/security/user/{somebody.pk}/password/", new)
    theirs = AuditLog.objects.filter(target_id=str(somebody.pk)).values_list("action", flat=True)

    own = {"old_password": PASSWORD, "new_password1": "another long password", "new_password2": "another long password"}
    browser.post(reverse("admin:password_change"), own)
    mine = AuditLog.objects.filter(target_id=str(root.pk), action__startswith="user.").values_list("action", flat=True)

    assert list(theirs) == ["user.changed"]
    assert list(mine) == ["user.changed"]
