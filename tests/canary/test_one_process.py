"""The same hunt as in test_whole_site.py in one process and a few seconds: what each change of the code can break."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.testing import HttpCommunicator
from django.core.cache import caches
from django.db import connection
from django.test import Client
from django.urls import reverse
from prometheus_client import generate_latest
from rest_framework.test import APIClient

from bots.models import Bot, Endpoint, Message
from clawdbot_site.asgi import application
from clawdbot_site.security.models import ApiClient
from clawdbot_site.security.models.clients import ALL_SCOPES
from inference.models import LanguageModel
from integrations.models import GroupRobot, PlatformCredential
from integrations.tokens import CachedTokens
from monitoring import audit, exports, logs, metrics
from monitoring.models import AlertChannel, AuditLog
from tests.bots.callbacks import dingtalk_message, feishu_event
from tests.bots.conftest import work_off
from tests.canary.search import Canary, Search
from tests.canary.sinks import Sinks
from tests.canary.site import Plants
from tests.servers.model_service import ModelService

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rule("E10")]
SECRET_FIELDS = ("app_secret", "verification_token", "encrypt_key")
PAGES: list[Any] = [Bot, Endpoint, LanguageModel, PlatformCredential, GroupRobot, AlertChannel, ApiClient, Message]
READ_ONLY = ["bots:read", "messages:read", "audit:read"]


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """As LOG_LEVEL=DEBUG does it."""
    caplog.set_level(logging.DEBUG)
    for name in logs.QUIET:
        caplog.set_level(logging.WARNING, logger=name)
    return caplog


@async_to_sync
async def ask(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Through the whole ASGI stack."""
    sent = {"content-type": "application/json", "host": "127.0.0.1", **headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    line = HttpCommunicator(application, "POST" if body else "GET", path, body, pairs)
    line.scope["client"] = ("127.0.0.1", 1234)
    answer = await line.get_response(timeout=10)
    await line.wait(timeout=10)
    return answer["status"], answer["body"]


class Hunt:
    """Secrets by REST and by hand, used rightly and wrongly."""

    def __init__(self, control: str, rest: APIClient, reader: APIClient, page: Client) -> None:
        self.control, self.rest, self.reader, self.page = control, rest, reader, page
        self.plants, self.sinks = Plants(), Sinks()
        self.made: dict[str, list[str]] = {}

    def create(self, path: str, shows: tuple[str, ...] = (), **body: Any) -> Any:
        answer = self.rest.post(f"/api/v1/{path}/", body, format="json")
        assert answer.status_code == 201, answer.content
        self.sinks.add("REST answers", answer.content, shows)
        self.made.setdefault(path, []).append(answer.json().get("slug") or answer.json()["id"])
        return answer.json()

    def enter(self, model_url: str) -> None:
        new, control = self.plants.new, self.control
        place = {"engine": "openai", "base_url": model_url, "model": "m", "is_checked_often": False}
        self.create("models", name=control, api_key=new("API key of a model"), **place)
        self.create("model-keys", model=control, key=new("second API key of a model"))
        self.create("bots", slug=control, name=control, model=control, reply_mode="text", ai_notice="")
        robot = f"https://oapi.dingtalk.com/robot/send?access_token={new('address of a group robot')}"
        signed = {"webhook_url": robot, "signing_secret": new("secret of a group robot")}
        self.create("group-robots", name=control, platform="dingtalk", **signed)
        key = self.create("api-clients", ("API key",), name=control, scopes=["bots:read"])["key"]
        self.plants.seen("API key", key.partition(".")[2])
        for platform in ("feishu", "dingtalk"):
            self._app(platform)
        channel = AlertChannel(name=control, kind="webhook")
        channel.put(f"https://alerts.example/{new('path of an alert webhook')}", new("secret of an alert webhook"))
        channel.save()
        audit.record_created(channel)
        CachedTokens().set(control, new("access token of a platform"), 60)

    def _app(self, platform: str) -> None:
        fields = SECRET_FIELDS if platform == "feishu" else SECRET_FIELDS[:1]
        given = {field: self.plants.new(f"{field} of {platform}") for field in fields}
        row = self.create("credentials", name=self.control, platform=platform, app_id=f"cli_{platform}", **given)
        name = f"key of an endpoint of {platform}"
        body = {"bot": self.control, "credential": row["id"], "mode": "webhook"}
        self.plants.seen(name, self.create("endpoints", (name,), **body)["key"])

    def call(self) -> None:
        """Platforms and others at the doors."""
        feishu, dingtalk = Endpoint.objects.order_by("credential__platform").reverse().select_related("credential")
        session = self.plants.new("session address of DingTalk")
        url = f"https://oapi.dingtalk.com/robot/sendBySession?session={session}"
        messages = {
            feishu: feishu_event(feishu, self.control),
            dingtalk: dingtalk_message(dingtalk, self.control, sessionWebhook=url, sessionWebhookExpiredTime=1 << 45),
        }
        for endpoint, (body, headers) in messages.items():
            path, key = f"/webhooks/{endpoint.credential.platform}/{endpoint.key}/", endpoint.key
            self._heard(200, path, body, headers)
            self._heard(401, path, body, {**headers, "X-Lark-Signature": "0", "sign": "0"})
            self._heard(404, f"/webhooks/feishu/{key}x/", body, headers)
            self._heard(401, f"/api/v1/hooks/{key}/", b"{}", {"webhook-id": key})
            self._heard(400, f"/api/v1/hooks/{key}/", json.dumps({"text": key}).encode(), {})
            self._heard(404, f"/api/v1/{key}/", b"", {})
            self._heard(404, f"/{key}/", b"", {})
        self._heard(404, f"/webhooks/feishu/{self.plants.new('mistyped key')}/", b"{}", {})

    def _heard(self, expected: int, path: str, body: bytes, headers: dict[str, str]) -> None:
        status, answer = ask(path, body, headers)
        assert status == expected, (path, answer)
        self.sinks.add("answers to anybody", answer)

    def look(self) -> None:
        """Every list and row by REST and in the admin."""
        for path, rows in self.made.items():
            shows = self._keys() if path == "endpoints" else []
            for where in (f"/api/v1/{path}/", *(f"/api/v1/{path}/{row}/" for row in rows)):
                self.sinks.add("REST answers", self.rest.get(where).content, shows)
                self.sinks.add("REST answers to a reader", self.reader.get(where).content)
        for model in PAGES:
            place = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            self.sinks.add("admin pages", self.page.get(reverse(f"{place}_changelist")).content)
            for row in model._default_manager.all()[:2]:
                shows = self._keys() if model is Endpoint else []
                self.sinks.add("admin pages", self.page.get(reverse(f"{place}_change", args=[row.pk])).content, shows)

    def _keys(self) -> list[str]:
        return [name for name in self.plants if name.startswith("key of an endpoint")]

    def empty_into_sinks(self, lines: list[logging.LogRecord]) -> None:
        for formatter in (logs.ConsoleFormatter(), logs.RedactingJsonFormatter()):
            self.sinks.add("logs", "\n".join(formatter.format(record) for record in lines))
        self.sinks.add("metrics", generate_latest(metrics.registry()))
        for form, (_type, written) in exports.FORMATS.items():
            self.sinks.add(f"audit log as {form}", "".join(written(AuditLog.objects.all())))
        self.sinks.add("cache", b"".join(key.encode() + value for key, value in caches["default"]._cache.items()))
        self.sinks.add("database", b"".join(rows_of(table) for table in connection.introspection.table_names()))


def client_with(scopes: Iterable[str]) -> APIClient:
    client = APIClient(raise_request_exception=False)
    _row, key = ApiClient.objects.create_key(name="caller", scopes=list(scopes))
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client


def rows_of(table: str) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
        values = [value for row in cursor.fetchall() for value in row]
    return b"\n".join(bytes(one) if isinstance(one, bytes | memoryview) else str(one).encode() for one in values)


def test_no_planted_secret_comes_out_of_one_process(
    admin_client: Client, settings: Any, everything_logged: pytest.LogCaptureFixture
) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS, settings.MFA_REQUIRED_ROLES = ["127.0.0.0/8"], []
    control = f"control-{secrets.token_hex(8)}"
    hunt = Hunt(control, client_with(ALL_SCOPES), client_with(READ_ONLY), admin_client)
    with ModelService(api_key="another") as service:  # the service refuses each key, and quotes it
        hunt.enter(service.base_url)
        hunt.call()
        work_off(*Message.objects.filter(role="user"))
    hunt.look()
    hunt.empty_into_sinks(everything_logged.records)

    assert hunt.sinks.leaks(hunt.plants.search()) == []
    without = hunt.sinks.names() - hunt.sinks.with_hits(Search([Canary("control", control)]))
    assert without == {"answers to anybody"}, "a place where nothing was looked for"
