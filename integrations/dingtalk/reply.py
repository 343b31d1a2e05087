"""A reply in DingTalk as plain messages.

The journal remembers each call that could become visible. A message has no id by which DingTalk would know a repeat,
so one with a lost answer is never sent again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from integrations.base import Journal, ReplyStream, Step
from integrations.dingtalk import cards, limits
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.events import session_url
from integrations.dingtalk.refusals import Refused
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.traffic import Stopped
from integrations.values import Credentials, ReplyTarget

WEBHOOK_MARGIN_S = 300.0


class PlainReply(ReplyStream):
    """Messages, made visible at the end: by the chat's session webhook while it lives, else by the robot's API."""

    def __init__(self, client: DingTalkClient, credentials: Credentials, target: ReplyTarget, journal: Journal) -> None:
        self._client = client
        self._credentials = credentials
        self._target = target
        self._journal = journal
        self._webhook = session_url(target.webhook_url, credentials.oapi_url)

    def show(self, text: str) -> None:
        """Messages do not grow."""

    def finish(self, text: str) -> None:
        self.send_all(cards.messages(text))

    def send_all(self, messages: Iterable[cards.Message]) -> None:
        at_staff_id = cards.mention(self._target)
        for number, message in enumerate(messages, start=1):
            self._send(f"part-{number}", message, at_staff_id if number == 1 else "")

    def _send(self, name: str, message: cards.Message, at_staff_id: str) -> None:
        """One part; ``name`` stands for the webhook, ``name``-api for the API, which takes over after a refusal."""
        by_webhook, by_api = (self._journal.find(step) for step in (name, f"{name}-api"))
        if _is_done(by_webhook) or _is_done(by_api):
            return
        if by_webhook is None and self._is_webhook_alive() and self._is_sent_by_webhook(name, message, at_staff_id):
            return
        self._send_by_api(f"{name}-api", message)

    def _is_webhook_alive(self) -> bool:
        return bool(self._webhook) and time.time() < self._target.webhook_expires_at_s - WEBHOOK_MARGIN_S

    def _is_sent_by_webhook(self, name: str, message: cards.Message, at_staff_id: str) -> bool:
        """False after a refusal, whatever its reason: the API has its own permissions, quota and limits.

        Its turn comes before its intent: whoever dies while waiting leaves nothing that may have been sent.
        """
        try:
            self._client.pace(limits.SESSION, self._target.chat_id)
        except Stopped:
            return False
        _begin(self._journal, name)
        try:
            body = cards.webhook_message(message, at_staff_id)
            self._client.send_by_session(self._webhook, body, self._target.chat_id)
        except Refused as problem:
            self._journal.refused(name, str(problem))
            self._webhook = ""
            return False
        self._journal.done(name)
        return True

    def _send_by_api(self, name: str, message: cards.Message) -> None:
        if self._target.chat_type == "direct" and not self._target.sender_id:
            raise PlatformError(
                "DingTalk named no staff id for this person, and the chat's reply address does not work: publish the"
                " app's version in the developer console; people outside the company cannot be answered later",
                permanent=True,
            )
        self._client.pace(limits.TO_GROUP if self._target.chat_type == "group" else limits.TO_USER)
        _begin(self._journal, name)
        try:
            sent_id = self._call_api(message)
        except Refused as problem:
            self._journal.refused(name, str(problem))
            raise
        self._journal.done(name, sent_id)

    def _call_api(self, message: cards.Message) -> str:
        if self._target.chat_type == "group":
            return self._client.send_to_group(cards.group_message(self._credentials, self._target.chat_id, message))
        return self._client.send_to_user(cards.user_message(self._credentials, self._target.sender_id, message))


def _is_done(step: Step | None) -> bool:
    """Whether a part is visible. Raises OutcomeUnknown for one that an earlier holder may have sent."""
    if step and step.state == "intended":
        raise _maybe_sent()
    return step is not None and step.state == "done"


def _begin(journal: Journal, name: str) -> None:
    if not journal.intend(name).is_new:
        raise _maybe_sent()


def _maybe_sent() -> OutcomeUnknown:
    return OutcomeUnknown("an earlier try to send this part was cut off; it may have arrived, so it is not repeated")
