"""While the database is away: the rules that need none, told at once from memory, written down when it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from monitoring.alerting import notices, rules, unwritten, wording
from monitoring.alerting.evaluating import CLEAR_S, Evaluator, Key
from monitoring.alerting.rules import Breach, Look, Setting
from monitoring.alerting.senders import Send, SendingFailed
from monitoring.alerting.wording import News
from monitoring.models import Alert, AlertChannel, Silence
from monitoring.redaction import redact

logger = logging.getLogger(__name__)

DATABASE: Final = "database.down"


@dataclass(slots=True)
class Entry:
    """An alert without a row."""

    rule: str
    severity: str
    breach: Breach
    opened_at: datetime
    closed_at: datetime | None = None
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def news(self, what: str) -> News:
        summary = self.breach.summary
        return News(what, self.rule, self.breach.subject, self.severity, summary, self.opened_at, self.closed_at)


class Outage:
    """Remembers what the database held last, for the time without it."""

    def __init__(self, evaluator: Evaluator, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._evaluator, self._clock_s = evaluator, clock_s
        self._channels: list[tuple[AlertChannel, Send]] = []
        self._silences: list[Silence] = []
        self._open_before: set[Key] = set()
        self._wrong_since: dict[Key, float] = {}
        self._well_since: dict[Key, float] = {}
        self.entries: dict[Key, Entry] = {}

    def remember(self, now: datetime) -> None:
        """Read what an outage needs. Raises DatabaseError."""
        self._channels = list(notices.prepared(AlertChannel.objects.filter(is_enabled=True)))
        self._silences = list(Silence.objects.in_force(now))
        self._open_before = set(Alert.objects.open().values_list("rule", "subject"))

    def look(self, now: datetime, problem: Exception) -> None:
        """Look at what can be looked at, and tell."""
        self._evaluator.history.now = now
        found: list[tuple[Setting, Breach]] = [(self._setting(DATABASE), _database_breach(problem))]
        for setting in self._settings():
            if setting.rule.look and setting.is_enabled and not setting.rule.needs_database:
                look = Look(now, setting.threshold, self._evaluator.history)
                found += [(setting, breach) for breach in rules.breaches(setting, look) or []]
        wrong = {(setting.rule.name, breach.subject[:200]): (setting, breach) for setting, breach in found}
        for place, (setting, breach) in wrong.items():
            self._note_wrong(place, setting, breach, now)
        for place in list(self.entries.keys() - wrong.keys()):
            self._note_well(place, now)
        self._tell(now)

    def settle(self, now: datetime) -> None:
        """The database is back: write down what happened. Raises DatabaseError."""
        if (entry := self.entries.get((DATABASE, ""))) is not None:
            entry.closed_at = entry.closed_at or now
        if self.entries:
            unwritten.take_away()
        for place, entry in list(self.entries.items()):
            _write(entry)
            del self.entries[place]
        self._wrong_since.clear()
        self._well_since.clear()

    def _settings(self) -> list[Setting]:
        return self._evaluator.settings or [Setting.of(rule, None) for rule in rules.all_rules()]

    def _setting(self, name: str) -> Setting:
        return next(setting for setting in self._settings() if setting.rule.name == name)

    def _note_wrong(self, place: Key, setting: Setting, breach: Breach, now: datetime) -> None:
        since = self._wrong_since.setdefault(place, self._clock_s())
        self._well_since.pop(place, None)
        is_known = place in self._open_before or place in self.entries
        if not is_known and setting.is_enabled and self._clock_s() - since >= setting.for_s:
            severity = breach.severity or setting.severity
            self.entries[place] = Entry(place[0], severity, breach, now)
            logger.error("alert without a database", extra={"rule": place[0], "summary": breach.summary})

    def _note_well(self, place: Key, now: datetime) -> None:
        self._wrong_since.pop(place, None)
        since = self._well_since.setdefault(place, self._clock_s())
        if self._clock_s() - since >= CLEAR_S:
            self.entries[place].closed_at = self.entries[place].closed_at or now

    def _tell(self, now: datetime) -> None:
        unwritten.leave(entry.news("opened") for entry in self.entries.values() if not entry.closed_at)
        with ThreadPoolExecutor(notices.AT_ONCE, thread_name_prefix="alert-sender") as pool:
            list(pool.map(lambda one: self._tell_one(one[0], one[1], now), self._channels))

    def _tell_one(self, channel: AlertChannel, send: Send, now: datetime) -> None:
        groups: dict[str, list[tuple[Entry, str]]] = {}
        for entry in self.entries.values():
            if what := self._what_is_new(channel, entry):
                groups.setdefault(rules.group_of(entry.rule), []).append((entry, what))
        for group, found in groups.items():
            try:
                send(wording.message(group, [entry.news(what) for entry, what in found], now))
            except SendingFailed as problem:
                logger.warning("an alert notice was not sent", extra={"reason": str(problem)})
                continue  # the next look tries again
            for entry, what in found:
                entry.told[str(channel.pk)] = {"state": what, "at": now.isoformat()}

    def _what_is_new(self, channel: AlertChannel, entry: Entry) -> str:
        state = entry.told.get(str(channel.pk), {}).get("state", "")
        if entry.closed_at:
            return "closed" if state == "opened" else ""
        is_silent = any(one.covers(entry.rule, entry.breach.subject) for one in self._silences)
        return "" if state or is_silent or not notices.matters(channel, entry.severity) else "opened"


def _database_breach(problem: Exception) -> Breach:
    reason = redact((str(problem).strip().splitlines() or [type(problem).__name__])[0])
    return Breach("", _("The database takes nothing: %(reason)s") % {"reason": reason[:300]})


def _write(entry: Entry) -> None:
    row = Alert(
        rule=entry.rule,
        subject=entry.breach.subject[:200],
        severity=entry.severity,
        summary=entry.breach.summary[:500],
        opened_at=entry.opened_at,
        closed_at=entry.closed_at,
        details=entry.breach.details,
        told=entry.told,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:  # alert_open_once: somebody else opened it meanwhile
        logger.info("an alert was open already", extra={"rule": entry.rule})
