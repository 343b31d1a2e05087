"""A fake Feishu and a fake DingTalk with an app on each, and the meter that counts their calls."""

from __future__ import annotations

import httpx
import pytest

from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import Credentials
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.doubles import MemoryTokens
from tests.integrations.feishu.fake_feishu import FakeFeishu

from .answers import MemoryMeter


@pytest.fixture
def meter() -> MemoryMeter:
    return MemoryMeter()


@pytest.fixture
def in_feishu(http: httpx.Client, meter: MemoryMeter) -> FeishuAdapter:
    return FeishuAdapter(http, MemoryTokens(), meter)


@pytest.fixture
def in_dingtalk(http: httpx.Client, meter: MemoryMeter) -> DingTalkAdapter:
    return DingTalkAdapter(http, MemoryTokens(), meter)


@pytest.fixture
def app(feishu: FakeFeishu) -> Credentials:
    return Credentials(
        id="1", platform="feishu", app_id=feishu.app_id, app_secret=feishu.app_secret, api_url=feishu.url
    )


@pytest.fixture
def robot(dingtalk: FakeDingTalk) -> Credentials:
    return Credentials(
        id="2",
        platform="dingtalk",
        app_id=dingtalk.app_id,
        app_secret=dingtalk.app_secret,
        api_url=dingtalk.api_url,
        oapi_url=dingtalk.oapi_url,
        card_template_id="tmpl-0001.schema",
    )
