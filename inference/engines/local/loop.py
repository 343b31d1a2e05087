"""The engine's thread: owns the model, survives what breaks it, and says so when it cannot."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import torch

from inference.engines.local.core import Core
from inference.engines.local.meter import Meter
from inference.engines.local.sequence import Event, Sequence

logger = logging.getLogger(__name__)

MAX_CRASHES, WITHIN_S = 3, 600.0
FIRST_PAUSE_S = 0.2
_LONGEST_STEP_S = 30.0


class EngineLoop:
    """``build`` makes a core with an empty cache; ``deliver`` takes what each step brought."""

    def __init__(
        self,
        build: Callable[[], Core],
        deliver: Callable[[list[Event]], None],
        host_time: Meter,
        torch_threads: int | None = None,
    ) -> None:
        self.restarts = 0
        self.has_given_up = False
        self.core: Core | None = build()  # None while it is built anew, and after giving up
        self._build = build
        self._deliver = deliver
        self._host_time = host_time
        self._torch_threads = torch_threads
        self._crashed_at: deque[float] = deque(maxlen=MAX_CRASHES)
        self._changed = threading.Condition()
        self._inbox: deque[Sequence] = deque()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="local-engine", daemon=True)
        self._thread.start()

    def add(self, sequence: Sequence) -> None:
        with self._changed:
            self._inbox.append(sequence)
            self._changed.notify()

    def close(self) -> None:
        """Waits for the step under way: a process that exits inside torch crashes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(_LONGEST_STEP_S)

    def _serve(self) -> None:
        if self._torch_threads is not None:
            torch.set_num_threads(self._torch_threads)
        while not self._is_closed:
            if self.core is None:
                self._refuse()
                continue
            try:
                self._work(self.core)
            except Exception as error:  # the outermost loop: whatever broke, the next request finds a fresh engine
                logger.exception("the engine broke")
                self._recover(self.core, f"the engine broke: {type(error).__name__}: {error}"[:300])

    def _work(self, core: Core) -> None:
        while not self._is_closed:
            self._take_in(core)
            if core.has_work:
                self._deliver(core.step())
                self._host_time.note(core.host_s)

    def _take_in(self, core: Core) -> None:
        if core.has_work and not self._inbox:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._is_closed or core.has_work)
            while self._inbox:
                core.add(self._inbox.popleft())

    # -- after a crash --------------------------------------------------------------------------------------------

    def _recover(self, broken: Core, reason: str) -> None:
        """What ran is lost; what waited is begun on a fresh core."""
        self._fail(broken.running, reason)
        waiting = broken.waiting
        self.core = None  # before there is another: there is no memory for two
        del broken
        self.restarts += 1
        self._crashed_at.append(time.monotonic())
        fresh = None if self._crashes_too_often() else self._rebuilt()
        if fresh is None:
            self._give_up(waiting, reason)
            return
        for sequence in waiting:
            fresh.add(sequence)
        self.core = fresh

    def _give_up(self, waiting: list[Sequence], reason: str) -> None:
        logger.critical("the engine gives up; only a new process can help", extra={"reason": reason})
        self.has_given_up = True
        self._fail(waiting, reason)

    def _crashes_too_often(self) -> bool:
        return len(self._crashed_at) == MAX_CRASHES and time.monotonic() - self._crashed_at[0] < WITHIN_S

    def _rebuilt(self) -> Core | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, FIRST_PAUSE_S * 4 ** (len(self._crashed_at) - 1))
        gc.collect()  # the broken cache may hang in the traceback; there is no memory for two
        try:
            return self._build()
        except Exception:  # a device that is gone, memory that does not come back: there is nothing left to try
            logger.exception("the engine cannot be built anew")
            return None

    def _refuse(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._is_closed)
            late = list(self._inbox)
            self._inbox.clear()
        self._fail(late, "the engine has given up")

    def _fail(self, sequences: Iterable[Sequence], reason: str) -> None:
        self._deliver([Event(sequence, finish="error", error=reason) for sequence in sequences])
