"""DingTalk behind the common interface: HTTP callbacks or Stream in, messages and cards out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import httpx

from integrations.base import (
    NO_BUTTONS,
    Adapter,
    Buttons,
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
from integrations.checking import Finding
from integrations.dingtalk import check
from integrations.dingtalk.cards import has_card_space
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.events import open_callback, parse_message
from integrations.dingtalk.reply import CardReply, PlainReply
from integrations.dingtalk.stream import DingTalkStream
from integrations.listening import LongConnection
from integrations.metering import QuotaMeter, Unmetered, streaming_pause_s


class DingTalkAdapter(Adapter):
    """Enterprise-internal robots. ``http`` is shared and thread-safe, ``tokens`` are shared by all processes."""

    platform: ClassVar[str] = "dingtalk"

    def __init__(self, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None) -> None:
        self._http = http
        self._tokens = tokens
        self._meter = meter or Unmetered()

    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any] | Challenge | Ignored:
        return open_callback(request, credentials)

    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        return parse_message(payload, credentials)

    def open_reply(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        journal: Journal,
        *,
        streaming: bool,
        buttons: Buttons = NO_BUTTONS,
    ) -> ReplyStream:
        client = DingTalkClient(credentials, self._http, self._tokens, self._meter)
        has_cards = bool(credentials.card_template_id) and has_card_space(target)
        pause_s = streaming_pause_s(self._meter.share(credentials.id, "api")) if has_cards else 0.0
        can_stream = streaming and has_cards and pause_s < math.inf
        if can_stream or journal.find("card"):  # a begun card must be finished
            return CardReply(client, credentials, target, journal, pause_s)
        return PlainReply(client, credentials, target, journal)

    def push(self, credentials: Credentials, target: ReplyTarget, text: str, journal: Journal) -> None:
        to_person = bool(target.sender_id) and (target.chat_type == "direct" or not target.chat_id)
        place = replace(target, chat_type="direct" if to_person else "group", webhook_url="")
        client = DingTalkClient(credentials, self._http, self._tokens, self._meter)
        PlainReply(client, credentials, place, journal).finish(text)

    def check(self, credentials: Credentials) -> list[Finding]:
        return check.findings(credentials, self._http, self._meter)

    def connect(self, credentials: Credentials) -> LongConnection:
        return DingTalkStream(credentials, self._http)
