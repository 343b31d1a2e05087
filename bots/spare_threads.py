"""Threads that are used again together with their database connections: opening one costs more than a message.

Unlike those of an executor they are daemons (a reply that hangs keeps no process from ending), there are as many as are
needed at once, and one that had nothing to do for IDLE_S goes away with its connection.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

from django.db import connection

from bots import connections

logger = logging.getLogger(__name__)
IDLE_S = 30.0
Job = tuple[Callable[[], None], threading.Event]


class SpareThreads:
    def __init__(self, name: str, idle_s: float = IDLE_S) -> None:
        self._name, self._idle_s = name, idle_s
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._idle = 0  # threads that wait and that no job was promised to

    def start(self, work: Callable[[], None]) -> threading.Event:
        """Run ``work`` at once in a thread of its own; the event is set when it ended, whatever came of it."""
        ended = threading.Event()
        with self._guard:
            needs_thread = self._idle == 0
            self._idle -= not needs_thread
        self._jobs.put((work, ended))
        if needs_thread:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return ended

    def _run(self) -> None:
        with contextlib.closing(connection):
            while job := self._next():
                work, ended = job
                try:
                    connections.freshen()
                    work()
                except Exception:  # the next job wants this thread, too
                    logger.exception("the work of a spare thread broke")
                with self._guard:
                    self._idle += 1
                ended.set()

    def _next(self) -> Job | None:
        """None after a while without work; a job that was promised to this thread meanwhile is on its way."""
        while True:
            try:
                return self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                with self._guard:
                    if self._idle:
                        self._idle -= 1
                        return None
