"""The database: reachable, migrated, writable, and of one mind with this machine about the time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.migrations.exceptions import MigrationSchemaMissing
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.doctor import Finding, Level
from monitoring.models import Alert

MOST_SKEW_S = 2.0
DANGEROUS_SKEW_S = 60.0
MOST_NAMES = 3


def check() -> Iterator[Finding]:
    """Stops at the first thing that makes the next one senseless."""
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        yield Finding(
            "failed", _("The database cannot be reached: %(reason)s") % {"reason": _first_line(error)}, _fix()
        )
        return
    waiting = _migrations_to_do()
    if waiting:
        names = ", ".join(waiting[:MOST_NAMES]) + (" …" if len(waiting) > MOST_NAMES else "")
        what = _("Migrations are not applied: %(names)s.") % {"names": names}
        yield Finding(
            "failed", what, _("Run: python manage.py migrate (`make run` and `manage.py up` do it at their start).")
        )
        return
    yield _writing()


def _writing() -> Finding:
    try:
        with transaction.atomic():
            Alert.objects.create(
                rule="doctor", subject="doctor", severity=Alert.Severity.WARNING, summary="rolled back"
            )
            transaction.set_rollback(True)
    except DatabaseError as error:
        what = _("The database takes no changes: %(reason)s") % {"reason": _first_line(error)}
        return Finding("failed", what, _("Is the disk full, the file read-only, or this a replica?"))
    name = "PostgreSQL" if connection.vendor == "postgresql" else "SQLite"
    version = ".".join(map(str, connection.get_database_version()))
    return Finding(
        "ok", _("%(name)s %(version)s is reachable, migrated and writable.") % {"name": name, "version": version}
    )


def clock() -> Iterator[Finding]:
    """SQLite has no clock of its own."""
    if connection.vendor != "postgresql":
        return
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
    skew_s = (theirs - before - (timezone.now() - before) / 2).total_seconds()
    yield judged(skew_s, _("the database"), MOST_SKEW_S)


def judged(skew_s: float, whose: str, most_s: float) -> Finding:
    """``skew_s``: how far the other clock is ahead of ours; above ``most_s`` somebody should look."""
    if abs(skew_s) <= most_s:
        return Finding("ok", _("This machine's clock agrees with %(whose)s.") % {"whose": whose})
    what = _("This machine's clock and that of %(whose)s differ by %(skew)s s.")
    fix = _("Keep the time with NTP on both: timedatectl set-ntp true")
    level: Level = "failed" if abs(skew_s) > DANGEROUS_SKEW_S else "warning"
    return Finding(level, what % {"whose": whose, "skew": round(abs(skew_s), 1)}, fix)


def _migrations_to_do() -> list[str]:
    """Without a table of migrations all are to be done."""
    try:
        executor = MigrationExecutor(connection)
    except (DatabaseError, MigrationSchemaMissing):
        return [_("all")]
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, is_backwards in plan]


def _fix() -> str:
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return _("Check DATABASE_URL or CLAWDBOT_DATA_DIR: the folder must exist, and be writable for this user.")
    return _("Check DATABASE_URL, and whether PostgreSQL runs and lets this machine in.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
