"""What an app has used of its company's monthly quota of calls, and the alert before it is used up.

Months are those of the platforms, in China. The counting is done by ``quota_meter.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db.models import Prefetch
from django.utils import timezone

from integrations.metering import SPARING_SHARE, Quota
from integrations.models import Platform, PlatformCredential, QuotaUsage
from monitoring.alerts import close_alert, open_alert
from monitoring.models import Alert

RULE: Final = "platform.quota"
CHINA: Final = ZoneInfo("Asia/Shanghai")
QUOTAS: Final[dict[str, tuple[Quota, ...]]] = {Platform.DINGTALK: ("api", "webhook"), Platform.FEISHU: ("api",)}


def month_of(moment: datetime) -> date:
    """The first day of the month that a call counts in."""
    return _month_of_hour(int(moment.timestamp() // 3600))


@lru_cache(maxsize=64)
def _month_of_hour(hours: int) -> date:
    """China's months begin with an hour of the Unix clock. Kept: it is asked for with each call and each event."""
    return datetime.fromtimestamp(hours * 3600, CHINA).date().replace(day=1)


@dataclass(frozen=True, slots=True)
class State:
    """One quota in this month. ``limit`` is 0 where none is set."""

    quota: Quota
    used: int
    limit: int
    is_used_up: bool = False  # the platform said so, whatever we counted

    @property
    def share(self) -> float:
        counted = self.used / self.limit if self.limit else 0.0
        return max(counted, 1.0) if self.is_used_up else counted


def with_usage(month: date | None = None) -> Prefetch[Any]:
    """For querysets of credentials: ``states`` then makes no query for each."""
    rows = QuotaUsage.objects.filter(month=month or month_of(timezone.now()))
    return Prefetch("usage", rows, to_attr="usage_now")


def states(credential: PlatformCredential, month: date | None = None) -> list[State]:
    """The quotas of an app in a month, this one unless told otherwise; or in the month that ``with_usage`` read."""
    rows = getattr(credential, "usage_now", None)
    if rows is None:
        rows = credential.usage.filter(month=month or month_of(timezone.now()))
    found = {row.quota: row for row in rows}
    return [_state(credential, quota, found.get(quota)) for quota in QUOTAS[credential.platform]]


def _state(credential: PlatformCredential, quota: Quota, row: QuotaUsage | None) -> State:
    limit = credential.monthly_api_quota if quota == "api" else credential.monthly_webhook_quota
    return State(quota, row.used if row else 0, limit, bool(row and row.used_up_at))


def review(month: date | None = None) -> None:
    """Open an alert for each app that is near the end of a quota, close those of a past month or a larger plan.

    An alert of a quota that was short and is used up by now gives way to a critical one.
    """
    opened = dict(Alert.objects.open().filter(rule=RULE).values_list("subject", "severity"))
    for credential in PlatformCredential.objects.prefetch_related(with_usage(month)):
        short = [state for state in states(credential) if state.share >= SPARING_SHARE]
        subject = str(credential.pk)
        worst = max(short, key=lambda state: state.share, default=None)
        is_outdated = worst is None or (_severity(worst), opened.get(subject)) == ("critical", "warning")
        if subject in opened and is_outdated:
            close_alert(RULE, subject=subject)
            del opened[subject]
        if worst and subject not in opened:
            _alert(credential, worst)


def _severity(state: State) -> str:
    return "critical" if state.share >= 1.0 else "warning"


def _alert(credential: PlatformCredential, state: State) -> None:
    used = f"{state.used} of {state.limit or '?'} {state.quota} calls"
    how = "nearly used up" if state.share < 1.0 else "used up, says the platform" if state.is_used_up else "used up"
    effect = "Streaming is reduced." if state.share < 1.0 else "People are not answered, or not for long."
    open_alert(
        RULE,
        f"{credential}: the monthly quota is {how} ({used}). {effect} Raise the plan.",
        subject=str(credential.pk),
        severity=_severity(state),
        details={"quota": state.quota, "used": state.used, "limit": state.limit},
    )


def shares() -> dict[tuple[str, str], float]:
    """For clawdbot_platform_quota_ratio: the fullest quota of each app that has one."""
    rows = PlatformCredential.objects.prefetch_related(with_usage())
    found = {(row.platform, row.app_id): [state.share for state in states(row) if state.limit] for row in rows}
    return {app: max(known) for app, known in found.items() if known}


def used() -> dict[tuple[str, str], float]:
    """For clawdbot_platform_quota_used: all billed calls of this month, by platform and app ID."""
    rows = PlatformCredential.objects.prefetch_related(with_usage())
    return {(row.platform, row.app_id): float(sum(state.used for state in states(row))) for row in rows}
