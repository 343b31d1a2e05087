"""Log lines to a central receiver (LOG_FORWARD_TO), by a thread of its own: logging never waits for the network.

What waits is bounded. While the receiver is down the newest lines are dropped and counted
(``clawdbot_log_lines_dropped_total``); they still stand on standard output and in the files.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from datetime import UTC, datetime
from typing import Final

from monitoring import metrics, receivers
from monitoring.receivers import Record

MOST_WAITING: Final = 10_000
AT_ONCE: Final = 500
GATHER_S: Final = 0.5
PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
LAST_WORDS_S: Final = 2.0  # at the end of the process


class ForwardingHandler(logging.Handler):
    """One thread a process, begun with its first line: a forked worker begins its own."""

    def __init__(self, receiver: str, most_waiting: int = MOST_WAITING) -> None:
        super().__init__()
        self._receiver = receivers.parse(receiver)
        self._waiting: queue.Queue[Record] = queue.Queue(most_waiting)
        self._thread: threading.Thread | None = None
        self._process = 0
        self._is_ending = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread() is self._thread:
            return  # sending must not cause lines to send
        at = datetime.fromtimestamp(record.created, UTC)
        try:
            self._waiting.put_nowait(Record(at, _severity(record.levelno), self.format(record)))
        except queue.Full:
            metrics.log_lines_dropped(1)
        self._begin()

    def close(self) -> None:
        self._is_ending.set()
        if self._thread is not None and self._process == os.getpid():
            self._thread.join(LAST_WORDS_S)
        super().close()

    def _begin(self) -> None:
        if self._process == os.getpid() or self._is_ending.is_set():
            return
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="log-forwarding", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        failures = 0
        while records := self._gather():
            while not self._try(records):
                if self._is_ending.wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)]):
                    return metrics.log_lines_dropped(len(records) + self._waiting.qsize())
                failures += 1
            failures = 0
        return None

    def _gather(self) -> list[Record]:
        """What came within half a second; nothing only when the process ends."""
        records: list[Record] = []
        end = time.monotonic() + GATHER_S
        while len(records) < AT_ONCE:
            try:
                records.append(self._waiting.get(timeout=max(end - time.monotonic(), 0.01)))
            except queue.Empty:
                if records or self._is_ending.is_set():
                    break
                end = time.monotonic() + GATHER_S
        return records

    def _try(self, records: list[Record]) -> bool:
        try:
            self._receiver.send(records)
        except Exception:  # noqa: BLE001  (the outermost loop of its thread: whatever it was, it is tried again)
            return False
        return True


def _severity(level: int) -> int:
    """Python's level as syslog's severity."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((severity for least, severity in steps if level >= least), 7)
