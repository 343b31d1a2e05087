"""What doctor asks below all apps. Registered first, so that what everything else stands on is told first."""

from __future__ import annotations

from monitoring import doctor
from monitoring.doctor import alerts, audit_log, database, machine, settings


def register() -> None:
    doctor.register("settings", settings.check, needs_database=False)
    doctor.register("database", database.check, needs_database=False)
    doctor.register("broker", machine.broker, needs_database=False)
    doctor.register("site", machine.site, needs_database=False)
    doctor.register("disk", machine.disk, needs_database=False)
    doctor.register("backup", machine.backups, needs_database=False)
    doctor.register("scan", machine.scan, needs_database=False)
    doctor.register("alerts", alerts.check)
    doctor.register("audit", audit_log.places, needs_database=False)
    doctor.register("audit log", audit_log.check)
