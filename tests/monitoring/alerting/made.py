"""Histories made by hand, a channel that only remembers, and what was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from monitoring.alerting import rules
from monitoring.alerting.rules import Breach, Look
from monitoring.alerting.senders import Kind, Message, SendingFailed
from monitoring.models import AlertChannel
from monitoring.rollups.history import History, Total

NOW = datetime(2026, 5, 4, 12, 30, 59, tzinfo=UTC)


def history(
    sums: Mapping[str, float], minutes: int = 5, ago: int = 0, levels: Mapping[str, float] | None = None
) -> History:
    """The same minute, ``minutes`` times, the last one ``ago`` minutes before NOW."""
    made = History()
    made.now = NOW
    return more(made, sums, minutes, ago, levels)


def more(
    made: History, sums: Mapping[str, float], minutes: int, ago: int = 0, levels: Mapping[str, float] | None = None
) -> History:
    last = NOW.replace(second=0) - timedelta(minutes=ago)
    looks = {name: [value, 1.0, value] for name, value in (levels or {}).items()}
    for number in range(minutes):
        made.minutes[last - timedelta(minutes=number)] = Total(dict(sums), looks)
    return made


def look(made: History, threshold: float = 0.0) -> Look:
    return Look(NOW, threshold, made)


def values(breaches: Any) -> list[tuple[str, str]]:
    return [(breach.subject, breach.severity) for breach in breaches]


def told_by(name: str) -> list[tuple[str, str]]:
    """What a rule finds at its own threshold where nothing has happened."""
    rule = rules.find(name)
    assert rule
    assert rule.look
    return values(rule.look(look(history({}), rule.threshold or 0)))


class Heard:
    """A kind of channel whose messages are kept here; with a ``problem`` it refuses them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.problem: SendingFailed | None = None

    def kind(self) -> Kind:
        return Kind("heard", "Heard", lambda address, secret: None, lambda address, secret: self._send)

    def _send(self, message: Message) -> None:
        if self.problem:
            raise self.problem
        self.messages.append(message)

    @property
    def titles(self) -> list[str]:
        return [message.title for message in self.messages]


def channel(**values: Any) -> AlertChannel:
    row = AlertChannel(**{"name": "Operators", "kind": "heard", **values})
    row.put("somewhere", "")
    row.save()
    return row


def breach(subject: str = "", severity: str = "") -> Breach:
    return Breach(subject, f"{subject or 'it'} is wrong", 1.0, severity)
