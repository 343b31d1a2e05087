"""The web as a platform: browsers and API clients. They enter through our own doors, and hear by the channel layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from integrations.base import Adapter, Journal, ReplyStream
from integrations.errors import PayloadError, PlatformError
from integrations.values import NO_BUTTONS, Buttons, Credentials, Inbound, ReplyTarget, WebhookRequest
from integrations.web import live


class WebReply(ReplyStream):
    """Publishes what is new. Nothing to confirm: the answer is in the database, where every reader finds it."""

    interval_s: ClassVar[float] = 0.0

    def __init__(self, message_id: str) -> None:
        self._message_id, self._sent = message_id, 0
        live.restart(message_id)

    def show(self, text: str) -> None:
        if len(text) > self._sent:
            live.publish(self._message_id, text, self._sent)
            self._sent = len(text)

    def finish(self, text: str) -> None:
        self.show(text)


class WebAdapter(Adapter):
    platform: ClassVar[str] = "web"

    def open(self, request: WebhookRequest, credentials: Credentials) -> Mapping[str, Any]:
        raise PayloadError("The web has no callbacks: use the REST API or the WebSocket.")

    def parse(self, payload: Mapping[str, Any], credentials: Credentials) -> Inbound:
        raise PayloadError("The web has no callbacks: use the REST API or the WebSocket.")

    def open_reply(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        journal: Journal,
        *,
        streaming: bool,
        buttons: Buttons = NO_BUTTONS,
    ) -> ReplyStream:
        return WebReply(target.message_id)

    def push(
        self,
        credentials: Credentials,
        target: ReplyTarget,
        text: str,
        journal: Journal,
        *,
        is_markdown: bool = True,
    ) -> None:
        raise PlatformError("Nobody can be reached on the web without having asked.", permanent=True)
