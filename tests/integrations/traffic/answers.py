"""Answers into chats of both platforms, and the meter of their calls."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from integrations.base import Adapter
from integrations.breaker import THRESHOLD
from integrations.errors import PlatformError
from integrations.metering import Quota, Unmetered
from integrations.pacing import Limit
from integrations.values import Credentials, ReplyTarget
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.doubles import MemoryJournal

ONE_A_MINUTE = Limit(burst=1, interval_s=60.0)


class MemoryMeter(Unmetered):
    def __init__(self, share: float = 0.0) -> None:
        self.counted: Counter[Quota] = Counter()
        self.used_up: set[Quota] = set()
        self.given = share

    def count(self, credential_id: str, quota: Quota) -> None:
        self.counted[quota] += 1

    def share(self, credential_id: str, quota: Quota) -> float:
        return self.given

    def use_up(self, credential_id: str, quota: Quota) -> None:
        self.used_up.add(quota)


CHAT = ReplyTarget(chat_id="oc_1", chat_type="group", message_id="om_question", sender_id="ou_1")


def group(dingtalk: FakeDingTalk, **values: Any) -> ReplyTarget:
    target = ReplyTarget(
        chat_id="cidGroup==",
        chat_type="group",
        message_id="m1",
        sender_id="staff0001",
        webhook_url=dingtalk.webhook,
        webhook_expires_at_s=time.time() + 5400,
    )
    return replace(target, **values)


def answer(adapter: Adapter, app: Credentials, target: ReplyTarget, text: str = "answer") -> Any:
    journal = MemoryJournal(f"reply-{time.monotonic_ns()}")
    adapter.open_reply(app, target, journal, streaming=False).finish(text)
    return journal


def fail_often(adapter: Adapter, app: Credentials, target: ReplyTarget, times: int = THRESHOLD) -> None:
    for _ in range(times):
        with pytest.raises(PlatformError):
            answer(adapter, app, target)
