"""A platform whose people send files, quote, and belong to departments: the rest is the real DingTalk adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.errors import PlatformError, TooLarge
from integrations.values import Attachment, CardAction, Credentials, Fetched, Quoted, ReplyTarget, Toast


class Platform(DingTalkAdapter):
    """``files`` by key, ``quotes`` by message id, ``departments`` by person. ``trouble`` is raised while it is set."""

    def __init__(self, real: DingTalkAdapter) -> None:
        super().__init__(real._http, real._tokens, real._meter)
        self.files: dict[str, bytes] = {}
        self.quotes: dict[str, Quoted] = {}
        self.departments: dict[str, set[str]] = {}
        self.trouble: PlatformError | None = None
        self.asked: list[str] = []

    def fetch_attachment(self, credentials: Credentials, attachment: Attachment, *, most_bytes: int) -> Fetched:
        self._note(attachment.key)
        if attachment.key not in self.files:
            raise PlatformError("no such file", permanent=True)
        if len(self.files[attachment.key]) > most_bytes:
            raise TooLarge("too large")
        return Fetched(self.files[attachment.key])

    def fetch_quoted(self, credentials: Credentials, message_id: str, target: ReplyTarget) -> Quoted | None:
        self._note(message_id)
        return self.quotes.get(message_id)

    def departments_of(self, credentials: Credentials, user_id: str) -> frozenset[str]:
        self._note(user_id)
        return frozenset(self.departments.get(user_id, ()))

    def shown(self, action: CardAction, toast: Toast) -> Mapping[str, Any]:
        return {"toast": toast.text, "kind": toast.kind, "vote": toast.vote}

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.trouble:
            raise self.trouble
