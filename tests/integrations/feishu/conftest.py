"""A fake Feishu, an app on it, and the vectors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations.feishu import limits
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.client import FeishuClient
from integrations.feishu.stream import FeishuStream
from integrations.pacing import Limit
from integrations.values import Credentials, ReplyTarget
from tests.integrations.doubles import MemoryJournal, MemoryTokens

from .desk import Desk
from .fake_feishu import FakeFeishu
from .fake_gateway import Gateway
from .listening import QUICK, Listener

VECTOR_FILE = json.loads((Path(__file__).parent / "feishu_vectors.json").read_text())
SHARED: dict[str, str] = VECTOR_FILE["shared"]
CLOCK = float(VECTOR_FILE["clock"])


def vectors(kind: str) -> list[Any]:
    """Parameters: the vectors of one kind."""
    return [pytest.param(v, id=v["id"]) for v in VECTOR_FILE["vectors"] if v["kind"] == kind]


def credentials(**fields: Any) -> Credentials:
    """The vectors' app, unless told otherwise."""
    given = {
        "id": "1",
        "platform": "feishu",
        "app_id": SHARED["app_id"],
        "api_url": "https://open.feishu.cn",
        "verification_token": SHARED["verification_token"],
        "encrypt_key": SHARED["encrypt_key"],
    }
    return Credentials(**{**given, **fields})


@pytest.fixture(autouse=True)
def talkative_chats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long answers take no time. What the limits do is shown in tests/integrations/test_pacing.py."""
    monkeypatch.setattr(limits, "CHAT", Limit(burst=1_000, interval_s=0.001))


@pytest.fixture
def tokens() -> MemoryTokens:
    return MemoryTokens()


@pytest.fixture
def app(feishu: FakeFeishu) -> Credentials:
    return credentials(app_id=feishu.app_id, app_secret=feishu.app_secret, api_url=feishu.url)


@pytest.fixture
def client(app: Credentials, http: httpx.Client, tokens: MemoryTokens) -> FeishuClient:
    return FeishuClient(app, http, tokens)


@pytest.fixture
def adapter(http: httpx.Client, tokens: MemoryTokens) -> FeishuAdapter:
    return FeishuAdapter(http, tokens)


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def target() -> ReplyTarget:
    return ReplyTarget(chat_id="oc_1", chat_type="group", message_id="om_question", sender_id="ou_alice")


@pytest.fixture
def desk(adapter: FeishuAdapter, app: Credentials, target: ReplyTarget, journal: MemoryJournal) -> Desk:
    return Desk(adapter, app, target, journal)


def app_of(gateway: Gateway, **fields: Any) -> Credentials:
    given = {"app_id": gateway.app_id, "app_secret": gateway.app_secret, "api_url": gateway.url}
    return credentials(**{**given, **fields})


@pytest.fixture
def loopback_allowed(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    settings.OUTBOUND_TRUSTED_ORIGINS = []
    settings.OUTBOUND_PROXY = ""


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as fake:
        yield fake


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def stream(gateway: Gateway) -> FeishuStream:
    return FeishuStream(app_of(gateway), guarded_client(), QUICK)
