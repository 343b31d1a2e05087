"""A fake DingTalk, an app on it, and the vectors."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from integrations.base import ReplyStream
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.dingtalk.client import DingTalkClient
from integrations.values import Credentials, ReplyTarget
from tests.integrations.doubles import MemoryJournal, MemoryTokens

from .fake_dingtalk import FakeDingTalk

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "dingtalk_vectors.json").read_text())["vectors"]
LONG = "\n\n".join(f"paragraph {i} " + "x" * 300 for i in range(30))

Open = Callable[..., ReplyStream]


def vectors(*kinds: str) -> list[Any]:
    """Parameters: the vectors of these kinds."""
    return [pytest.param(v, id=v["id"]) for v in VECTORS if v["kind"] in kinds]


def vector(name: str) -> dict[str, Any]:
    """The vector whose id begins with ``name``; a copy, which may be taken apart."""
    return copy.deepcopy(next(v for v in VECTORS if v["id"].startswith(name)))


@pytest.fixture
def tokens() -> MemoryTokens:
    return MemoryTokens()


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def credentials(dingtalk: FakeDingTalk) -> Credentials:
    return Credentials(
        id="1",
        platform="dingtalk",
        app_id=dingtalk.app_id,
        app_secret=dingtalk.app_secret,
        api_url=dingtalk.api_url,
        oapi_url=dingtalk.oapi_url,
        card_template_id="tmpl-0001.schema",
    )


@pytest.fixture
def client(credentials: Credentials, http: httpx.Client, tokens: MemoryTokens) -> DingTalkClient:
    return DingTalkClient(credentials, http, tokens)


@pytest.fixture
def direct(dingtalk: FakeDingTalk) -> ReplyTarget:
    return ReplyTarget(
        chat_id="cidDirect==",
        chat_type="direct",
        message_id="m1",
        sender_id="staff0001",
        webhook_url=dingtalk.webhook,
        webhook_expires_at_s=time.time() + 5400,
    )


@pytest.fixture
def group(dingtalk: FakeDingTalk) -> ReplyTarget:
    return ReplyTarget(
        chat_id="cidGroup==",
        chat_type="group",
        message_id="m1",
        sender_id="staff0001",
        webhook_url=dingtalk.webhook,
        webhook_expires_at_s=time.time() + 5400,
    )


@pytest.fixture
def open_reply(credentials: Credentials, http: httpx.Client, tokens: MemoryTokens, journal: MemoryJournal) -> Open:
    adapter = DingTalkAdapter(http, tokens)

    def opened(target: ReplyTarget, *, streaming: bool = False) -> ReplyStream:
        return adapter.open_reply(credentials, target, journal, streaming=streaming)

    return opened
