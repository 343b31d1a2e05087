"""What the rules of the ground floor look at, for who has a Prometheus: asked for at each scrape."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from monitoring import health, metrics
from monitoring.alerting import clocks
from monitoring.models import Alert, AuditWaiting, Severity
from monitoring.rollups import keeping, machine


def register() -> None:
    gauges = {
        "clawdbot_machine_cpu_ratio": keeping.latest_cpu_share,
        "clawdbot_machine_memory_ratio": machine.memory_share,
        "clawdbot_disk_free_ratio": machine.disks,
        "clawdbot_database_up": database_up,
        "clawdbot_redis_up": redis_up,
        "clawdbot_clock_skew_seconds": clock_skews_s,
        "clawdbot_audit_oldest_unsealed_seconds": oldest_unsealed_s,
        "clawdbot_alerts_open": open_alerts,
    }
    for name, callback in gauges.items():
        metrics.register_gauge(name, callback)


def database_up() -> float:
    try:
        health.database()
    except (DatabaseError, InterfaceError):
        connection.close()
        return 0.0
    return 1.0


def redis_up() -> float | None:
    if not settings.REDIS_URL:
        return None
    try:
        health.broker()
    except Exception:  # noqa: BLE001  (whatever it is: it does not answer)
        return 0.0
    return 1.0


def clock_skews_s() -> dict[str, float]:
    found = {"database": clocks.database_skew_s(), "redis": clocks.redis_skew_s()}
    return {name: skew_s for name, skew_s in found.items() if skew_s is not None}


def oldest_unsealed_s() -> float:
    """The ids are of version 7: they tell when the entry was made."""
    oldest = AuditWaiting.objects.order_by("entry_id").values_list("entry_id", flat=True).first()
    if oldest is None:
        return 0.0
    made_at = datetime.fromtimestamp((oldest.int >> 80) / 1000, UTC)
    return max(0.0, (timezone.now() - made_at).total_seconds())


def open_alerts() -> dict[str, float]:
    severities = list(Alert.objects.open().values_list("severity", flat=True))
    return {name: float(severities.count(name)) for name in Severity.values}
