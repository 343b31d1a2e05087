"""Every test begins with full buckets and working apps; a fake of each platform runs for who asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from integrations import breaker, pacing
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.feishu.fake_feishu import FakeFeishu


@pytest.fixture(autouse=True)
def fresh_traffic() -> None:
    pacing.buckets.cache_clear()
    breaker.forget()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def feishu() -> Iterator[FakeFeishu]:
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def dingtalk() -> Iterator[FakeDingTalk]:
    with FakeDingTalk() as fake:
        yield fake
