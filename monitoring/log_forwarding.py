"""Log lines to a central receiver (LOG_FORWARD_TO), by a thread of its own: logging never waits for the network.

What is dropped (``clawdbot_log_lines_dropped_total``) still stands on standard output and in the files.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

from monitoring import metrics, receivers
from monitoring.forwarder import Forwarder
from monitoring.receivers import Record

MOST_WAITING: Final = 10_000
LAST_WORDS_S: Final = 2.0  # at the end of the process


class ForwardingHandler(logging.Handler):
    def __init__(self, receiver: str, most_waiting: int = MOST_WAITING) -> None:
        super().__init__()
        send = receivers.parse(receiver).send
        self._lines: Forwarder[Record] = Forwarder("log-forwarding", send, metrics.log_lines_dropped, most_waiting)

    def emit(self, record: logging.LogRecord) -> None:
        if self._lines.is_sending:
            return  # sending must not cause lines to send
        at = datetime.fromtimestamp(record.created, UTC)
        self._lines.put(Record(at, _severity(record.levelno), self.format(record)))

    def close(self) -> None:
        self._lines.close(LAST_WORDS_S)
        super().close()


def _severity(level: int) -> int:
    """Python's level as syslog's severity."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((severity for least, severity in steps if level >= least), 7)
