"""Opens an alert when a rule's breach has held long enough, closes it when it is over for two looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from monitoring import metrics
from monitoring.alerting import rules
from monitoring.alerting.rules import Breach, Look, Setting
from monitoring.alerts import close_alert, open_alert
from monitoring.models import Alert, Severity
from monitoring.rollups import keeping
from monitoring.rollups.collecting import key
from monitoring.rollups.history import History

CLEAR_S: Final = 20.0  # what comes and goes within this stays one alert
Key = tuple[str, str]  # rule, subject
# What stands somewhere, whoever asks: looked at here, once for all processes.
GAUGES: Final = {
    "queue_oldest": "clawdbot_queue_oldest_seconds",
    "queue_depth": "clawdbot_queue_depth",
    "dead_letters": "clawdbot_dead_letters",
    "audit_unsealed": "clawdbot_audit_unsealed",
    "key_age_days": "clawdbot_key_age_days",
    "quota_used": "clawdbot_platform_quota_used",
}


class Evaluator:
    """What one process remembers between its looks: since when something is wrong, or well again."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.history = History()
        self.settings: list[Setting] = []
        self._clock_s = clock_s
        self._wrong_since: dict[Key, float] = {}
        self._well_since: dict[Key, float] = {}

    def evaluate(self, now: datetime) -> None:
        """Look at every rule. Raises DatabaseError, InterfaceError."""
        note_levels()
        self.history.refresh(now)
        self.settings = rules.settings_of_rules()
        opened = {(alert.rule, alert.subject): alert for alert in Alert.objects.open()}
        for setting in self.settings:
            if setting.rule.look is not None:
                self._evaluate(setting, now, opened)
        for rule, subject in opened:
            if rules.find(rule) is None:  # of an earlier version: nobody else would ever close it
                close_alert(rule, subject=subject)

    def _evaluate(self, setting: Setting, now: datetime, opened: dict[Key, Alert]) -> None:
        rule = setting.rule
        if any(name in rule.quiet_under for name, _subject in opened):
            return
        subjects = frozenset(subject for name, subject in opened if name == rule.name)
        look = Look(now, setting.threshold, self.history, subjects)
        found = rules.breaches(setting, look) if setting.is_enabled else []
        if found is None:
            return
        wrong = {(rule.name, breach.subject[:200]): breach for breach in found}
        for place, breach in wrong.items():
            self._well_since.pop(place, None)
            self._note_wrong(setting, place, breach, opened.get(place))
        for place in [one for one in self._wrong_since if one[0] == rule.name and one not in wrong]:
            del self._wrong_since[place]
        for subject in subjects:
            if (rule.name, subject) not in wrong:
                self._note_well((rule.name, subject), is_at_once=not setting.is_enabled)

    def _note_wrong(self, setting: Setting, place: Key, breach: Breach, alert: Alert | None) -> None:
        since = self._wrong_since.setdefault(place, self._clock_s())
        severity = breach.severity or setting.severity
        if alert is None and self._clock_s() - since >= setting.for_s:
            details = {**breach.details, **({} if breach.value is None else {"value": round(breach.value, 3)})}
            open_alert(place[0], breach.summary, subject=place[1], severity=severity, details=details)
        elif alert is not None and (alert.severity, severity) == (Severity.WARNING, Severity.CRITICAL):
            worse = {"severity": severity, "summary": breach.summary[:500], "told": {}}  # and so it is told again
            Alert.objects.filter(pk=alert.pk).update(**worse)

    def _note_well(self, place: Key, *, is_at_once: bool) -> None:
        since = self._well_since.setdefault(place, self._clock_s())
        if is_at_once or self._clock_s() - since >= CLEAR_S:
            close_alert(place[0], subject=place[1])
            del self._well_since[place]


def note_levels() -> None:
    """How high things stand that belong to no process, into the minutes of this one."""
    kept = keeping.keeper()
    if kept is None:
        return
    for name, gauge in GAUGES.items():
        for labels, value in metrics.asked(gauge).items():
            kept.level(f"{name}|{labels}" if labels else key(name), value)
