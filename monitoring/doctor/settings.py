"""The settings: what Django's system checks say, and what is wrong only outside development."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.utils.translation import gettext as _

from monitoring.doctor import Finding, Level


def check() -> Iterator[Finding]:
    found = [*_system_checks(), *_debug(), *_open_files()]
    yield from found
    if not found:
        shape = (
            _("embedded: one process") if settings.EMBEDDED else _("production: PostgreSQL, Redis, several processes")
        )
        yield Finding("ok", _("All settings are sound (%(shape)s).") % {"shape": shape})


def _system_checks() -> Iterator[Finding]:
    for message in checks.run_checks():
        if message.is_silenced() or message.level < checks.WARNING:
            continue
        level: Level = "failed" if message.is_serious() else "warning"
        yield Finding(level, str(message.msg), str(message.hint or _("See docs/settings.md.")))


def _debug() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            "warning" if settings.EMBEDDED else "failed",
            _("DEBUG is on: strangers see tracebacks."),
            _("Remove DEBUG from the environment and restart."),
        )


def _open_files() -> Iterator[Finding]:
    """Secrets lie in the data folder and in .env."""
    for path in (Path(settings.DATA_DIR), Path(settings.ENV_FILE)):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o007:
            yield Finding(
                "warning",
                _("Every user of this machine may open %(path)s.") % {"path": path},
                _("Run: chmod o-rwx %(path)s") % {"path": path},
            )
