from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from bots import pushes, sweeping, turns
from bots.models import Bot, Message
from clawdbot_site.security.models import ApiClient
from clawdbot_site.security.models.clients import ALL_SCOPES
from tests import factories
from tests.servers.model_service import ModelService

PAUSE_S = 0.01


@pytest.fixture
def key_with(db: None) -> Callable[..., str]:
    """Makes an API client with these scopes; returns its key."""

    def make(*scopes: str, name: str = "integrator") -> str:
        _client, key = ApiClient.objects.create_key(name=name, scopes=list(scopes))
        return str(key)

    return make


@pytest.fixture
def chat_key(key_with: Callable[..., str]) -> str:
    return key_with("chat")


@pytest.fixture
def caller(chat_key: str) -> APIClient:
    """Plain HTTP with a chat key as Bearer, as OpenAI's clients send it."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {chat_key}")
    return client


@pytest.fixture
def client_with(key_with: Callable[..., str]) -> Callable[..., APIClient]:
    """A REST client that signs in with a key of these scopes."""

    def make(*scopes: str, name: str = "integrator") -> APIClient:
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key_with(*scopes, name=name)}")
        return client

    return make


@pytest.fixture
def rest(client_with: Callable[..., APIClient]) -> APIClient:
    """A REST client that may do everything."""
    return client_with(*ALL_SCOPES)


@pytest.fixture
def bot(db: None) -> Bot:
    return factories.bot(slug="helper", name="Helper")


@pytest.fixture
def service() -> Iterator[ModelService]:
    with ModelService() as fake:
        yield fake


@pytest.fixture
def remote_bot(bot: Bot, service: ModelService, settings: Any) -> Bot:
    """The bot, answered by the fake service."""
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    bot.model = factories.model(
        name="remote", engine="openai", base_url=service.base_url, model="m", api_key=service.api_key
    )
    bot.save()
    return bot


class Worker:
    """Works off every conversation where something is due, as the workers that a doorbell wakes do."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            work_off()
        connection.close()


def fields_of(response: Any) -> dict[str, list[str]]:
    """What is wrong with each field of what was sent."""
    assert response.status_code == 400, response.content
    fields: dict[str, list[str]] = response.json()["error"]["fields"]
    return fields


def work_off() -> None:
    waiting: Any = Message.objects.due(timezone.now()).values_list("conversation_id", flat=True)
    for conversation_id in list(waiting):
        turns.work(conversation_id, may_answer=True)
    for conversation_id in list(sweeping.due_pushes()):
        pushes.work(conversation_id)


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    running = Worker()
    running.start()
    yield running
    running.stop()
