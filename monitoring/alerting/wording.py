"""What is told of alerts: title, text and payload of a notice, in the site's language."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.alerting import rules
from monitoring.alerting.senders import Message
from monitoring.models import Severity

MOST_NAMED: Final = 15
PAGE: Final = "/admin/monitoring/alert/"


@dataclass(frozen=True, slots=True)
class News:
    """One alert, and what is new about it: opened, closed, or reminded of."""

    what: str
    rule: str
    subject: str
    severity: str
    summary: str
    opened_at: datetime
    closed_at: datetime | None = None
    alert_id: str = ""


def message(group: str, news: Sequence[News], now: datetime) -> Message:
    data = {"group": group, "alerts": [_facts(one) for one in news], "url": f"{settings.PUBLIC_URL}{PAGE}"}
    payload = {"type": "alerts.changed", "timestamp": now.isoformat(), "data": data}
    return Message(f"msg_{uuid.uuid4().hex}", title(group, news), text(news), payload)


def title(group: str, news: Sequence[News]) -> str:
    opened = [one for one in news if one.what != "closed"]
    name = str(rules.GROUPS.get(group, group))
    if not opened:
        return _("Resolved: %(group)s") % {"group": name}
    severity = max((one.severity for one in opened), key=Severity.values.index)
    return f"[{Severity(severity).label}] {name}"


def text(news: Sequence[News]) -> str:
    order = {"opened": 0, "reminded": 1, "closed": 2}
    lines = [_line(one) for one in sorted(news, key=lambda one: order[one.what])[:MOST_NAMED]]
    if len(news) > MOST_NAMED:
        lines.append(_("… and %(count)d more.") % {"count": len(news) - MOST_NAMED})
    return "\n\n".join([*lines, f"{settings.PUBLIC_URL}{PAGE}"])


def _line(one: News) -> str:
    since = f"{timezone.localtime(one.opened_at):%m-%d %H:%M}"
    if one.what == "closed":
        return _("**Resolved** %(summary)s (open since %(since)s)") % {"summary": one.summary, "since": since}
    word = str(Severity(one.severity).label)
    if one.what == "reminded":
        word = _("still open, %(severity)s") % {"severity": word}
    return f"**{word}** {one.summary} ({since})"


def _facts(one: News) -> dict[str, Any]:
    return {
        "state": "closed" if one.what == "closed" else "open",
        "is_reminder": one.what == "reminded",
        "id": one.alert_id,
        "rule": one.rule,
        "subject": one.subject,
        "severity": one.severity,
        "summary": one.summary,
        "opened_at": one.opened_at.isoformat(),
        "closed_at": one.closed_at.isoformat() if one.closed_at else None,
    }
