"""Feishu (Lark) as ClawdBot's adapter: the interface and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import httpx

from integrations.base import (
    Adapter,
    Challenge,
    Credentials,
    Ignored,
    Inbound,
    Journal,
    ReplyStream,
    ReplyTarget,
    TokenStore,
    WebhookRequest,
)
from integrations.feishu import events, opening
from integrations.feishu.client import FeishuClient
from integrations.feishu.reply import CardReply, Outbox, TextReply


class FeishuAdapter(Adapter):
    """All apps of all tenants on Feishu and Lark; which one is in the credentials."""

    platform: ClassVar[str] = "feishu"

    def __init__(self, http: httpx.Client, tokens: TokenStore) -> None:
        self._http, self._tokens = http, tokens

    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any] | Challenge | Ignored:
        return opening.open_request(request, credentials)

    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        return events.parse(payload, credentials)

    def open_reply(
        self, credentials: Credentials, target: ReplyTarget, journal: Journal, *, streaming: bool
    ) -> ReplyStream:
        outbox = Outbox(self._client(credentials), target, journal)
        return CardReply(outbox) if streaming else TextReply(outbox)

    def push(self, credentials: Credentials, target: ReplyTarget, text: str, journal: Journal) -> None:
        chat = replace(target, message_id="")  # a push answers nobody
        TextReply(Outbox(self._client(credentials), chat, journal)).finish(text)

    def fetch_own_id(self, credentials: Credentials) -> str:
        return self._client(credentials).bot_open_id()

    def _client(self, credentials: Credentials) -> FeishuClient:
        return FeishuClient(credentials, self._http, self._tokens)
