"""Platform -> adapter. A new platform is a folder and one line here."""

from __future__ import annotations

from functools import cache

from clawdbot_site.security.outbound import guarded_client
from integrations.base import Adapter
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.feishu.adapter import FeishuAdapter
from integrations.quota_meter import meter
from integrations.tokens import CachedTokens
from integrations.web.adapter import WebAdapter


@cache
def adapters() -> dict[str, Adapter]:
    """One of each in a process; they share one pooled, guarded HTTP client."""
    http, tokens = guarded_client(), CachedTokens()
    feishu, dingtalk = FeishuAdapter(http, tokens, meter()), DingTalkAdapter(http, tokens, meter())
    made: list[Adapter] = [feishu, dingtalk, WebAdapter()]
    return {adapter.platform: adapter for adapter in made}


def adapter_for(platform: str) -> Adapter:
    return adapters()[platform]
