"""DingTalk behind the common interface: HTTP callbacks or Stream in, messages and cards out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import httpx
from django.utils.translation import gettext as _

from integrations.base import Adapter, Journal, ReplyStream, TokenStore
from integrations.checking import NO_WAY_IN, Finding, WayIn
from integrations.dingtalk import cards, check, events, keys, media, opening
from integrations.dingtalk.card_reply import CardReply
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.reply import PlainReply
from integrations.dingtalk.stream import DingTalkStream
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
    ReplyTarget,
    Toast,
    WebhookRequest,
)


class DingTalkAdapter(Adapter):
    """Enterprise-internal robots. ``http`` is shared and thread-safe, ``tokens`` are shared by all processes."""

    platform: ClassVar[str] = "dingtalk"
    signature_headers: ClassVar[frozenset[str]] = opening.SIGNED
    pins_company: ClassVar[bool] = True

    def __init__(self, http: httpx.Client, tokens: TokenStore, meter: QuotaMeter | None = None) -> None:
        self._http = http
        self._tokens = tokens
        self._meter = meter or Unmetered()

    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any] | Challenge | Ignored:
        return opening.open_callback(request, credentials)

    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        return events.parse(payload, credentials)

    def acknowledge(
        self, request: WebhookRequest, credentials: Credentials, shown: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return opening.acknowledge(request, credentials) or shown

    def shown(self, action: CardAction, toast: Toast) -> Mapping[str, Any]:
        return cards.pressed(toast)

    def open_reply(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        journal: Journal,
        *,
        streaming: bool,
        buttons: Buttons = NO_BUTTONS,
    ) -> ReplyStream:
        client = self._client(credentials)
        has_cards = bool(credentials.card_template_id) and cards.has_card_space(target)
        pause_s = streaming_pause_s(self._meter.share(credentials.id, "api")) if has_cards else 0.0
        can_stream = streaming and has_cards and pause_s < math.inf
        if can_stream or journal.find("card"):  # a begun card must be finished
            return CardReply(client, credentials, target, journal, pause_s, has_buttons=buttons != NO_BUTTONS)
        return PlainReply(client, credentials, target, journal)

    def push(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        text: str,
        journal: Journal,
        *,
        is_markdown: bool = True,
    ) -> None:
        to_person = bool(target.sender_id) and (target.chat_type == "direct" or not target.chat_id)
        place = replace(target, chat_type="direct" if to_person else "group", webhook_url="")
        messages = cards.messages(text) if is_markdown else cards.literal_messages(text)
        PlainReply(self._client(credentials), credentials, place, journal).send_all(messages)

    def fetch_attachment(self, credentials: Credentials, attachment: Attachment, *, most_bytes: int) -> Fetched:
        return media.fetch(self._client(credentials), self._http, attachment, most_bytes)

    def departments_of(self, credentials: Credentials, user_id: str) -> frozenset[str]:
        return self._client(credentials).departments_of(user_id)

    def check(self, credentials: Credentials, way_in: WayIn = NO_WAY_IN) -> list[Finding]:
        return check.findings(credentials, self._http, self._meter)

    def credential_faults(self, entered: Mapping[str, str], held: Collection[str]) -> Mapping[str, str]:
        return keys.faults(entered, held)

    def streaming_obstacle(self, credentials: Credentials) -> Finding | None:
        if credentials.card_template_id:
            return None
        what = _("The bot shows its answers as they are written, but the credential has no card template.")
        return Finding(
            "warning", what, _("Enter the id of an AI card template; until then each answer comes as one message.")
        )

    def prove_secret(self, credentials: Credentials) -> None:
        check.prove_secret(credentials, self._http)

    def connect(self, credentials: Credentials) -> LongConnection:
        return DingTalkStream(credentials, self._http)

    def _client(self, credentials: Credentials) -> DingTalkClient:
        return DingTalkClient(credentials, self._http, self._tokens, self._meter)
