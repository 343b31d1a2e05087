"""How the weekly scan of packages and code ended last on this machine: deploy/scan.sh writes it, doctor and an alert
read it (rule S2). A scan that did not end, or whose words nobody knows, has failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

OLD_AFTER: Final = timedelta(days=8)  # it runs every week
CLEAN: Final = "clean"


@dataclass(frozen=True, slots=True)
class Scan:
    ended_at: datetime
    failed: str  # the tools that failed; empty: clean

    @property
    def trouble(self) -> str:
        """What is wrong, in words; empty: nothing."""
        at = f"{self.ended_at:%Y-%m-%d %H:%M} UTC"
        if self.failed:
            return _("The scan of packages and code of %(at)s failed: %(tools)s.") % {"at": at, "tools": self.failed}
        if timezone.now() - self.ended_at > OLD_AFTER:
            return _("Packages and code were scanned last at %(at)s.") % {"at": at}
        return ""


def last() -> Scan | None:
    """None where no scan has been run."""
    path = Path(settings.SCAN_RESULT)
    try:
        return _read(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # what cannot be read is not clean
        return Scan(timezone.now(), f"{path}: {type(error).__name__}")


def _read(text: str) -> Scan:
    """``2030-01-31T03:30:00Z clean`` or ``… failed pip-audit bandit``. Raises ValueError."""
    at, verdict, *tools = text.split()
    if (verdict, bool(tools)) not in ((CLEAN, False), ("failed", True)):
        raise ValueError(f"unknown verdict {verdict}")
    return Scan(datetime.fromisoformat(at), "" if verdict == CLEAN else ", ".join(tools))


def is_bad() -> bool:
    scan = last()
    return scan is not None and scan.trouble != ""


def advice() -> str:
    return _("See journalctl -u clawdbot-scan, mend it, then: systemctl start clawdbot-scan")
