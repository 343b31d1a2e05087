"""Whether somebody works: a worker for each queue in use, the scheduler, and nothing that waits for too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import httpx
import redis
from celery import current_app
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError

from bots import gauges
from bots.heartbeats import queues_in_use
from monitoring.doctor import Finding
from monitoring.doctor.machine import site_host

ANSWER_S = 2.0  # a worker that is alive answers at once
SILENT_AFTER = timedelta(minutes=10)  # beat writes down what it did every three minutes
LONG_WAIT_S = 60.0


def workers() -> Iterator[Finding]:
    if settings.EMBEDDED:
        yield _embedded()
        return
    try:
        listening = _listening()
    except (OperationalError, redis.RedisError, OSError):
        yield Finding("failed", _("Workers cannot be asked without Redis."), _("Mend the broker first."))
        return
    for queue in queues_in_use():
        yield _of_queue(queue, listening[queue])


def _embedded() -> Finding:
    try:
        # nosemgrep: http-past-the-guard  (this machine's own site)
        httpx.get(f"http://{site_host()}:{settings.PORT}/livez", timeout=5, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        return Finding("failed", _("Nobody works: the workers are part of the site, which is down."), "make run")
    return Finding("ok", _("The workers are part of the site, which runs."))


def _listening() -> Counter[str]:
    """How many living workers listen to each queue."""
    found = current_app.control.inspect(timeout=ANSWER_S).active_queues() or {}
    return Counter(str(queue["name"]) for of_worker in found.values() for queue in of_worker)


def _of_queue(queue: str, count: int) -> Finding:
    if count:
        return Finding("ok", _("%(count)s workers listen to the queue %(queue)s.") % {"count": count, "queue": queue})
    how = f"celery -A clawdbot_site worker -Q {queue} -P threads -c 8"
    return Finding(
        "failed", _("No worker listens to the queue %(queue)s.") % {"queue": queue}, _("Start one: %s") % how
    )


def scheduler() -> Iterator[Finding]:
    """It writes its tasks' rows when it starts, and what it ran every few minutes."""
    task = PeriodicTask.objects.filter(name="sweep", enabled=True).first()
    seen = max(task.date_changed, task.last_run_at or task.date_changed) if task else None
    if seen and timezone.now() - seen < SILENT_AFTER:
        yield Finding("ok", _("The scheduler works."))
        return
    how = "make run" if settings.EMBEDDED else "systemctl start clawdbot-beat (celery -A clawdbot_site beat)"
    what = _("The scheduler does not work: nothing is swept, rotated or tidied.")
    yield Finding("failed", what, _("Start it: %s") % how)


def queues() -> Iterator[Finding]:
    late = {queue: age for queue, age in gauges.queue_oldest_s().items() if age > LONG_WAIT_S}
    for queue, age_s in late.items():
        what = _("In the queue %(queue)s a message has waited for %(seconds)s s.")
        fix = _("Look at the worker's log, and at the model and the platform below.")
        yield Finding("warning", what % {"queue": queue, "seconds": round(age_s)}, fix)
    if not late:
        yield Finding("ok", _("No message waits for long."))
    if dead := int(gauges.dead_letters()):
        what = _("%(count)s messages failed or are unconfirmed.") % {"count": dead}
        yield Finding("warning", what, _("See Dead letters in the admin: send them again or put them away."))
