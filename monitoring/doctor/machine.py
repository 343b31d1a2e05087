"""This machine: broker, disk, log folder, and the site on its port."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import redis
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring import health, scans
from monitoring.backups import folder
from monitoring.doctor import Finding, Level

GIB = 1024**3
LITTLE_BYTES, TOO_LITTLE_BYTES = 2 * GIB, GIB // 4
LITTLE_SHARE = 0.05


def broker() -> Iterator[Finding]:
    if settings.EMBEDDED:
        yield Finding("ok", _("The broker is part of the site's process (embedded)."))
        return
    try:
        health.broker()
    except (redis.RedisError, OSError, ValueError) as error:
        what = _("Redis cannot be reached: %(reason)s") % {"reason": f"{type(error).__name__}: {error}"}
        yield Finding("failed", what, _("Check REDIS_URL, and whether Redis runs. Messages are stored meanwhile."))
    else:
        yield Finding("ok", _("Redis answers."))


def site() -> Iterator[Finding]:
    """Asks the port that the settings name; on a machine that runs only workers nobody need answer there."""
    where = f"{site_host()}:{settings.PORT}"
    try:
        # nosemgrep: http-past-the-guard  (this machine's own site)
        status = httpx.get(f"http://{where}/livez", timeout=5, trust_env=False).status_code
    except httpx.HTTPError:
        level: Level = "failed" if settings.EMBEDDED else "warning"
        how = _("Start it: make run") if settings.EMBEDDED else _("Start it: systemctl start clawdbot")
        yield Finding(level, _("No site answers on %(where)s.") % {"where": where}, how)
        return
    if status == 200:
        yield Finding("ok", _("The site answers on %(where)s.") % {"where": where})
        return
    what = _("What answers on %(where)s is not this site (HTTP %(status)s).") % {"where": where, "status": status}
    yield Finding("failed", what, _("Check CLAWDBOT_PORT, and which program holds that port."))


def site_host() -> str:
    """Where this machine reaches its own site."""
    host = "127.0.0.1" if settings.HOST in ("0.0.0.0", "::", "") else str(settings.HOST)  # noqa: S104  (compared, not bound)  # nosec B104
    return f"[{host}]" if ":" in host else host


def disk() -> Iterator[Finding]:
    folders = [Path(settings.DATA_DIR), *([Path(settings.LOG_DIR)] if settings.LOG_DIR else [])]
    for path in folders:
        yield from _room(path)


def _room(path: Path) -> Iterator[Finding]:
    if not path.is_dir() or not os.access(path, os.W_OK):
        what = _("%(path)s is no folder that this user may write into.") % {"path": path}
        yield Finding("failed", what, _("Make it, and give it to the user that runs ClawdBot."))
        return
    usage = shutil.disk_usage(path)
    free = _("%(free)s GiB are free on the disk of %(path)s.") % {"free": round(usage.free / GIB, 1), "path": path}
    fix = _("Free some space, or make the disk larger: a full disk stops the site.")
    if usage.free < TOO_LITTLE_BYTES:
        yield Finding("failed", free, fix)
    elif usage.free < LITTLE_BYTES or usage.free < usage.total * LITTLE_SHARE:
        yield Finding("warning", free, fix)
    else:
        yield Finding("ok", free)


def backups() -> Iterator[Finding]:
    made_at = folder.last_made_at()
    fix = _("Run it every day, onto another disk: python manage.py backup --output FOLDER")
    if made_at is None:
        yield Finding("warning", _("No backup was made of this site."), fix)
        return
    age = timezone.now() - made_at
    what = _("The last backup is %(hours)s hours old.") % {"hours": int(age.total_seconds() // 3600)}
    yield Finding("warning", what, fix) if folder.is_old(made_at) else Finding("ok", what)


def scan() -> Iterator[Finding]:
    """Nobody scans for a trial; a server without its scan is told of it."""
    found = scans.last()
    if found is None:
        if not settings.EMBEDDED:
            what = _("Packages were never scanned for known holes on this machine.")
            yield Finding("warning", what, _("Turn the weekly scan on: sudo deploy/install.sh --scan"))
    elif found.trouble:
        yield Finding("failed" if found.failed else "warning", found.trouble, scans.advice())
    else:
        at = f"{found.ended_at:%Y-%m-%d %H:%M} UTC"
        yield Finding("ok", _("Packages and code were scanned at %(at)s: clean.") % {"at": at})
