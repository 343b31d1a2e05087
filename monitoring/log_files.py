"""Log files of LOG_DIR: one a day (UTC), fourteen kept, older ones than yesterday's compressed, mode 640.

Files are named by their day and only ever appended to, so several processes can write to them without renaming a file
under each other. ``RotatedFile`` leaves all that to logrotate.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import IO, Any, Final

KEPT_DAYS: Final = 14
MODE: Final = 0o640


class DailyFiles(logging.StreamHandler[IO[str]]):
    """Appends to ``<directory>/clawdbot-<day>.log``. The first line of a day tidies the older files."""

    def __init__(self, directory: str, today: Callable[[], date] = lambda: datetime.now(UTC).date()) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._today = today
        self._day = today()
        super().__init__(_open(self._path(self._day)))
        self._tidy()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._today() != self._day:
                self._next_day()
        except OSError:  # a full or read-only disk: lines go on into the file that is open
            self.handleError(record)
        super().emit(record)

    def close(self) -> None:
        self.acquire()
        try:
            self.stream.close()
        finally:
            self.release()
        super().close()

    def _next_day(self) -> None:
        day = self._today()
        old = self.setStream(_open(self._path(day)))
        self._day = day
        if old:
            old.close()
        self._tidy()

    def _tidy(self) -> None:
        """Another process may be doing the same: a file that is gone is fine."""
        for path in self.directory.glob("clawdbot-*.log*"):
            day = _day_of(path)
            with suppress(FileNotFoundError):
                if day and day <= self._day - timedelta(days=KEPT_DAYS):
                    path.unlink()
                elif day and day < self._day - timedelta(days=1) and path.suffix == ".log":
                    _compress(path)

    def _path(self, day: date) -> Path:
        return self.directory / f"clawdbot-{day.isoformat()}.log"


class RotatedFile(WatchedFileHandler):
    """Appends to ``<directory>/clawdbot.log``, and opens it anew within a second of its being renamed or removed."""

    LOOK_S: Final = 1.0

    def __init__(self, directory: str) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True, mode=0o750)
        self._looked_at_s = 0.0
        super().__init__(Path(directory) / "clawdbot.log", encoding="utf-8", errors="backslashreplace")

    def _open(self) -> Any:
        return _open(Path(self.baseFilename))

    def reopenIfNeeded(self) -> None:
        now = time.monotonic()
        if now - self._looked_at_s >= self.LOOK_S:
            self._looked_at_s = now
            super().reopenIfNeeded()


def _open(path: Path) -> IO[str]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE)
    with suppress(PermissionError):  # made by another user's process: it has set the mode
        os.fchmod(descriptor, MODE)
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def _day_of(path: Path) -> date | None:
    try:
        return date.fromisoformat(path.name.removeprefix("clawdbot-")[:10])
    except ValueError:
        return None


def _compress(path: Path) -> None:
    partial = path.with_name(f"{path.name}.gz.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
    with path.open("rb") as plain, os.fdopen(descriptor, "wb") as raw, gzip.open(raw, "wb") as packed:
        shutil.copyfileobj(plain, packed)
    partial.replace(path.with_name(f"{path.name}.gz"))
    path.unlink(missing_ok=True)
