"""Who is told of what: each channel one notice a group and interval, with all that is new; sent until it is there.

Opened, closed again, still open after a day. What is silenced is told when the silence ends, if it is still open.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from monitoring.alerting import rules, senders, wording
from monitoring.alerting.senders import Message, Send, SendingFailed
from monitoring.alerting.wording import News
from monitoring.models import Alert, AlertChannel, AlertNotice, Severity, Silence
from monitoring.models.alerts import is_silenced

logger = logging.getLogger(__name__)

CLOSED_LATELY: Final = timedelta(days=1)
KEPT: Final = timedelta(days=90)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 3600.0
GIVE_UP_AFTER: Final = timedelta(days=1)
AT_ONCE: Final = 8
MOST_DUE: Final = 50
TEST: Final = "test"


def tell(now: datetime) -> None:
    """Write the notices that are due, and send what waits. For the leader."""
    channels = list(AlertChannel.objects.filter(is_enabled=True))
    silences = list(Silence.objects.in_force(now))
    alerts = list(Alert.objects.filter(Q(closed_at=None) | Q(closed_at__gt=now - CLOSED_LATELY)).order_by("opened_at"))
    for channel in channels:
        for group, found in _news(channel, alerts, silences, now).items():
            if not _must_wait(channel, group, now):
                _write(channel, group, found, now)
    deliver(now)


def _news(
    channel: AlertChannel, alerts: Iterable[Alert], silences: list[Silence], now: datetime
) -> dict[str, list[tuple[Alert, str]]]:
    found: dict[str, list[tuple[Alert, str]]] = {}
    for alert in alerts:
        if what := _what_is_new(channel, alert, silences, now):
            found.setdefault(rules.group_of(alert.rule), []).append((alert, what))
    return found


def _what_is_new(channel: AlertChannel, alert: Alert, silences: list[Silence], now: datetime) -> str:
    told = (alert.told or {}).get(str(channel.pk)) or {}
    if alert.closed_at is not None:
        return "closed" if told.get("state") == "opened" else ""
    if not matters(channel, alert.severity) or is_silenced(alert, silences):
        return ""
    if not told:
        return "opened"
    told_at = parse_datetime(str(told.get("at", ""))) or now
    is_due = channel.remind_after_h and now - told_at >= timedelta(hours=channel.remind_after_h)
    return "reminded" if is_due and alert.acknowledged_at is None else ""


def matters(channel: AlertChannel, severity: str) -> bool:
    order = Severity.values
    return order.index(severity) >= order.index(channel.least_severity)


def _must_wait(channel: AlertChannel, group: str, now: datetime) -> bool:
    since = now - timedelta(seconds=channel.interval_s)
    return AlertNotice.objects.filter(channel=channel, group=group, created_at__gt=since).exists()


def _write(channel: AlertChannel, group: str, found: list[tuple[Alert, str]], now: datetime) -> None:
    message = wording.message(group, [news_of(alert, what) for alert, what in found], now)
    with transaction.atomic():
        AlertNotice.objects.create(
            channel=channel,
            group=group,
            title=message.title[:200],
            text=message.text,
            payload=message.payload,
            created_at=now,
            next_attempt_at=now,
        )
        for alert, what in found:
            state = "closed" if what == "closed" else "opened"
            alert.told = {**(alert.told or {}), str(channel.pk): {"state": state, "at": now.isoformat()}}
            alert.save(update_fields=["told"])


def news_of(alert: Alert, what: str) -> News:
    return News(
        what,
        alert.rule,
        alert.subject,
        alert.severity,
        alert.summary,
        alert.opened_at,
        alert.closed_at,
        str(alert.pk),
    )


# -- sending --


def ready(channel: AlertChannel) -> Send:
    """What sends to the channel, without the database. Raises SendingFailed."""
    kind = senders.kind(channel.kind)
    if kind is None:
        raise SendingFailed(_("Nobody knows how to send this kind."), permanent=True)
    try:
        address, secret = channel.place()
    except Exception as error:  # what the vault raises is the business of an app above
        logger.warning("an alert channel cannot be read", extra={"channel": str(channel.pk)}, exc_info=True)
        words = _("Its address cannot be read: bring the key back, or enter it again.")
        raise SendingFailed(words, permanent=True) from error
    return kind.prepare(address, secret)


def deliver(now: datetime) -> None:
    """Send what is due, all channels at once: each may wait for a network."""
    rows = AlertNotice.objects.filter(next_attempt_at__lte=now, channel__is_enabled=True).select_related("channel")
    by_channel: dict[Any, list[AlertNotice]] = {}
    for row in rows.order_by("created_at")[:MOST_DUE]:
        by_channel.setdefault(row.channel_id, []).append(row)
    if by_channel:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="alert-sender") as pool:
            list(pool.map(lambda rows: _deliver_in_thread(rows, now), by_channel.values()))
    AlertNotice.objects.filter(created_at__lt=now - KEPT).delete()


def _deliver_in_thread(rows: list[AlertNotice], now: datetime) -> None:
    """In order; what fails holds up what comes after it."""
    try:
        for row in rows:
            if not send_now(row, now):
                return
    finally:
        connection.close()


def test(channel: AlertChannel, title: str, text: str) -> AlertNotice:
    """Send a message now, once; its row says what came of it."""
    now = timezone.now()
    payload = {"type": "alerts.test", "timestamp": now.isoformat(), "data": {"text": text}}
    row = AlertNotice(channel=channel, group=TEST, title=title, text=text, payload=payload, created_at=now)
    row.save()
    if not send_now(row, now):
        row.next_attempt_at = None
        row.save(update_fields=["next_attempt_at"])
    return row


def send_now(row: AlertNotice, now: datetime) -> bool:
    channel, row.attempts = row.channel, row.attempts + 1
    try:
        ready(channel)(Message(f"msg_{row.pk.hex}", row.title, row.text, row.payload))
    except SendingFailed as problem:
        row.error, row.next_attempt_at = str(problem), _next_attempt_at(row, problem, now)
        channel.last_error = str(problem)
        logger.warning("an alert notice was not sent", extra={"channel": str(channel.pk), "reason": str(problem)})
    else:
        row.sent_at, row.error, row.next_attempt_at = now, "", None
        channel.last_sent_at, channel.last_error = now, ""
    row.save(update_fields=["attempts", "error", "next_attempt_at", "sent_at"])
    channel.save(update_fields=["last_error", "last_sent_at"])
    return row.sent_at is not None


def _next_attempt_at(row: AlertNotice, problem: SendingFailed, now: datetime) -> datetime | None:
    """Permanent refusals are tried again as well, rarely: an admin may mend the channel meanwhile."""
    if now - row.created_at > GIVE_UP_AFTER:
        return None
    pause_s = LONGEST_PAUSE_S if problem.permanent else FIRST_PAUSE_S * 2 ** min(row.attempts - 1, 8)
    return now + timedelta(seconds=min(pause_s, LONGEST_PAUSE_S))


def prepared(channels: Iterable[AlertChannel]) -> Iterator[tuple[AlertChannel, Send]]:
    """Those that can be used; the others have said why elsewhere."""
    for channel in channels:
        try:
            yield channel, ready(channel)
        except SendingFailed:
            continue
