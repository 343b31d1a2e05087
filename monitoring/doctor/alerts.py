"""Whether somebody looks at the alert rules, hears of alerts, and what is open now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.alerting.leading import NAME
from monitoring.doctor import Finding
from monitoring.models import Alert, AlertChannel, Leader

MOST_NAMED = 10


def check() -> Iterator[Finding]:
    yield _watched()
    yield from _channels()
    for alert in Alert.objects.open().order_by("severity", "-opened_at")[:MOST_NAMED]:
        # What is broken now, the other checks say; an alert may be seconds behind.
        yield Finding(
            "warning", _("Open alert: %(summary)s") % {"summary": alert.summary}, _("See Alerts in the admin.")
        )


def _watched() -> Finding:
    leader = Leader.objects.filter(name=NAME).first()
    if leader is not None and leader.until > timezone.now() - timedelta(seconds=60):
        return Finding("ok", _("The alert rules are looked at by %(process)s.") % {"process": leader.owner})
    what = _("Nobody looks at the alert rules.")
    return Finding("warning", what, _("Start the site or a worker; each of them can."))


def _channels() -> Iterator[Finding]:
    rows = list(AlertChannel.objects.filter(is_enabled=True))
    if not rows:
        what = _("Nobody is told of alerts.")
        yield Finding("warning", what, _("Add an alert channel in the admin: a group robot, e-mail or a webhook."))
    for row in rows:
        if row.last_error:
            what = _("The alert channel %(name)s does not work: %(error)s") % {"name": row, "error": row.last_error}
            yield Finding("warning", what, _("Mend it on its page in the admin, and send a test."))
    if rows and not any(row.last_error for row in rows):
        yield Finding("ok", _("%(count)d channels are told of alerts.") % {"count": len(rows)})
