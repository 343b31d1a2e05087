"""A call that works for each address of REST that changes something, and the entry that it must leave.

A new address is not in these tables, and test_rest.py fails until it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from inference.models import LanguageModel, ModelKey
from integrations.models import PlatformCredential
from tests import factories

from .rows import alert, chat, client_row, dead, put_away, rule, word_list

API = "/api/v1/"
# They store a question, and what the bot did with it is recorded when it is settled: tests/bots/test_recording.py.
QUESTIONS = {
    "POST hooks/<str:key>/",
    "POST bots/<slug:slug>/messages/",
    "POST /v1/chat/completions",
    "POST /v1/completions",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A call that works: its address and body, made at the time, and the entry that it must leave."""

    make: Callable[[], tuple[str, dict[str, Any]]]
    action: str


def pushed() -> tuple[str, dict[str, Any]]:
    return f"{API}endpoints/{factories.endpoint().pk}/push/", {"chat_id": "oc_1", "text": "News"}


def credential_fields(number: int = 1) -> dict[str, Any]:
    secrets = {"app_secret": "a-secret", "verification_token": "a-token", "encrypt_key": "a-key"}
    return {"name": f"App {number}", "platform": "feishu", "app_id": f"cli_new_{number}", **secrets}


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


def chat_fields() -> dict[str, Any]:
    return {"endpoint": str(factories.endpoint().pk), "chat_id": "oc_2", "name": "Support", "group_policy": "all"}


def service_model() -> LanguageModel:
    return factories.model(engine="openai", base_url="https://llm.example.com/v1", model="m", api_key="sk-1")


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
