"""Things that leave for a central place by a thread of their own: who hands them over never waits for the network.

What waits is bounded. While the other side is down the newest are dropped and counted.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

AT_ONCE: Final = 500
GATHER_S: Final = 0.5
PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
T = TypeVar("T")


class Forwarder(Generic[T]):
    """``send`` raises where a batch did not arrive: it is tried again. ``dropped`` gets the number of what never will.

    One thread a process, begun with the first item: a forked worker begins its own.
    """

    def __init__(
        self, name: str, send: Callable[[list[T]], None], dropped: Callable[[int], None], most_waiting: int
    ) -> None:
        self._name, self._send, self._dropped = name, send, dropped
        self._waiting: queue.Queue[T | None] = queue.Queue(most_waiting)
        self._thread: threading.Thread | None = None
        self._process = 0
        self._is_ending = threading.Event()

    @property
    def is_sending(self) -> bool:
        """Whether the caller is what sends: that must cause nothing to send."""
        return threading.current_thread() is self._thread

    def put(self, item: T) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._dropped(1)
        self._begin()

    def close(self, wait_s: float) -> None:
        """Send what waits, for so long at most."""
        self._is_ending.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)  # wakes who waits for more
        if self._thread is not None and self._process == os.getpid():
            self._thread.join(wait_s)

    def _begin(self) -> None:
        if self._process == os.getpid() or self._is_ending.is_set():
            return
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        failures = 0
        while items := self._gather():
            while not self._try(items):
                if self._is_ending.wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)]):
                    self._dropped(len(items) + len(self._rest()))
                    return
                failures += 1
            failures = 0

    def _gather(self) -> list[T]:
        """What came within half a second; nothing only when the process ends."""
        items: list[T] = []
        end = time.monotonic() + GATHER_S
        while len(items) < AT_ONCE:
            pause_s = 0.01 if self._is_ending.is_set() else max(end - time.monotonic(), 0.01)
            try:
                item = self._waiting.get(timeout=pause_s)
            except queue.Empty:
                if items or self._is_ending.is_set():
                    break
                end = time.monotonic() + GATHER_S
                continue
            if item is not None:
                items.append(item)
        return items

    def _rest(self) -> list[T]:
        return [item for item in self._waiting.queue if item is not None]

    def _try(self, items: list[T]) -> bool:
        try:
            self._send(items)
        except Exception:  # noqa: BLE001  (the outermost loop of its thread: whatever it was, it is tried again)
            return False
        return True
