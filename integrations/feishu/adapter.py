"""Feishu (Lark) as ClawdBot's adapter: the interface and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import httpx

from integrations.base import Adapter, Journal, ReplyStream, TokenStore
from integrations.checking import NO_WAY_IN, Finding, WayIn
from integrations.errors import PlatformError
from integrations.feishu import actions, cards, check, events, opening, quoting
from integrations.feishu.card_reply import CardReply
from integrations.feishu.client import FeishuClient
from integrations.feishu.content import Resource
from integrations.feishu.outbox import Outbox
from integrations.feishu.reading import FeishuReader
from integrations.feishu.reply import TextReply
from integrations.feishu.stream import FeishuStream
from integrations.listening import LongConnection
from integrations.metering import QuotaMeter, Unmetered, streaming_pause_s
from integrations.values import (
    NO_BUTTONS,
    Attachment,
    Buttons,
    CardAction,
    Challenge,
    Credentials,
    Fetched,
    Ignored,
    Inbound,
    Quoted,
    ReplyTarget,
    Toast,
    WebhookRequest,
)


class FeishuAdapter(Adapter):
    """All apps of all tenants on Feishu and Lark; which one is in the credentials."""

    platform: ClassVar[str] = "feishu"
    signature_headers: ClassVar[frozenset[str]] = frozenset({"x-lark-signature"})

    def __init__(self, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None) -> None:
        self._http, self._tokens, self._meter = http, tokens, meter or Unmetered()

    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any] | Challenge | Ignored:
        return opening.open_request(request, credentials)

    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        return events.parse(payload, credentials)

    def open_reply(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        journal: Journal,
        *,
        streaming: bool,
        buttons: Buttons = NO_BUTTONS,
    ) -> ReplyStream:
        outbox = Outbox(self._client(credentials), target, journal)
        pause_s = streaming_pause_s(self._meter.share(credentials.id, "api")) if streaming else math.inf
        if pause_s < math.inf or journal.find("card"):  # a begun card must be finished
            return CardReply(outbox, pause_s, buttons)
        return TextReply(outbox, shows_typing=not streaming)  # one that should stream is short of calls

    def push(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        text: str,
        journal: Journal,
        *,
        is_markdown: bool = True,
    ) -> None:
        chat = replace(target, message_id="")  # a push answers nobody
        parts = cards.parts(text) if is_markdown else cards.literal_parts(text)
        Outbox(self._client(credentials), chat, journal).send_all(parts)

    def shown(self, action: CardAction, toast: Toast) -> Mapping[str, Any]:
        return actions.answer(toast)

    def fetch_attachment(self, credentials: Credentials, attachment: Attachment, *, most_bytes: int) -> Fetched:
        try:
            resource = Resource.unpacked(attachment.key)
        except ValueError as problem:
            raise PlatformError("this file does not come from Feishu", permanent=True) from problem
        return replace(self._reader(credentials).file(resource, most_bytes), name=attachment.name)

    def fetch_quoted(self, credentials: Credentials, message_id: str, target: ReplyTarget) -> Quoted | None:
        reader = self._reader(credentials)
        items = reader.messages(message_id)
        names: dict[str, str] = {}
        with suppress(PlatformError):  # a name is nice to have, and needs a scope of its own
            names = reader.names(quoting.people_in(items))
        return quoting.quoted(items, names, target, credentials)

    def departments_of(self, credentials: Credentials, user_id: str) -> frozenset[str]:
        return self._reader(credentials).departments_of(user_id)

    def fetch_own_id(self, credentials: Credentials) -> str:
        return self._client(credentials).bot_open_id()

    def check(self, credentials: Credentials, way_in: WayIn = NO_WAY_IN) -> list[Finding]:
        return check.findings(credentials, self._http, self._meter, way_in)

    def prove_secret(self, credentials: Credentials) -> None:
        check.prove_secret(credentials, self._http)

    def connect(self, credentials: Credentials) -> LongConnection:
        return FeishuStream(credentials, self._http)

    def _reader(self, credentials: Credentials) -> FeishuReader:
        return FeishuReader(credentials, self._http, self._tokens, self._meter)

    def _client(self, credentials: Credentials) -> FeishuClient:
        return FeishuClient(credentials, self._http, self._tokens, self._meter)
