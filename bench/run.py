"""One run of load on one site: a closed loop of N connections, or an open loop at a fixed rate."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from bench.callbacks import Callback
from bench.figures import due_times, middle, percentile
from bench.measured import Job, Measured
from bench.wire import Connection

PATIENCE_S = 30.0  # for what is still under way at the end


@dataclass(slots=True)
class Exchange:
    """One message. ``started`` is when it was due, so that waiting for a free connection counts."""

    started: float
    answered: float = 0.0
    replied: float = 0.0
    is_refused: bool = False


class Run:
    def __init__(self, job: Job, callbacks: list[Callback]) -> None:
        self._job = job
        self._unsent = deque(callbacks)
        self._due: deque[float] = deque()  # an open loop's requests that wait for a connection
        self._idle: list[Connection] = []
        self._asking: dict[Connection, str] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._open, self._ends_at = 0, 0.0
        self._is_sending = True
        self._done = asyncio.Event()

    async def measure(self) -> Measured:
        loop = asyncio.get_running_loop()
        for _ in range(self._job.connections):
            _, made = await loop.create_connection(
                lambda: Connection(self._on_answer), "127.0.0.1", self._job.door.port
            )
            self._idle.append(made)
        began = time.monotonic()
        self._ends_at = began + self._job.seconds
        everybody = list(self._idle)
        await self._load(began)
        for connection in everybody:
            connection.close()
        return self._measured(began)

    async def _load(self, began: float) -> None:
        if self._job.rate is None:
            for connection in [self._idle.pop() for _ in range(self._job.connections)]:
                self._ask(connection, time.monotonic())
        else:
            await self._pace(began, self._job.rate)
        self._is_sending = self._job.rate is None and time.monotonic() < self._ends_at
        self._end_if_done()
        with suppress(TimeoutError):  # what is missing then is counted as lost
            await asyncio.wait_for(self._done.wait(), max(0.0, self._ends_at - time.monotonic()) + PATIENCE_S)

    async def _pace(self, began: float, rate: float) -> None:
        for due in due_times(rate, self._job.seconds):
            if (wait_s := began + due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._due.append(began + due)
            self._send_due()

    def _send_due(self) -> None:
        while self._due and self._idle:
            self._ask(self._idle.pop(), self._due.popleft())

    def _ask(self, connection: Connection, started: float) -> None:
        callback = self._unsent.popleft()
        self._asking[connection] = callback.uid
        self._exchanges[callback.uid] = Exchange(started)
        self._open += 1
        connection.ask(callback.request)

    def _on_answer(self, connection: Connection, status: int) -> None:
        uid = self._asking[connection]
        exchange = self._exchanges[uid]
        exchange.answered = time.monotonic()
        exchange.is_refused = status != 200
        is_whole = not self._job.waits_for_reply or exchange.replied or exchange.is_refused
        if is_whole:
            self._open -= 1
        if status and (is_whole or self._job.rate is not None):
            self._free(connection)
        self._end_if_done()

    def on_reply(self, uid: str, at: float) -> None:
        """A message reached the platform. Those of an earlier run, and repeats, change nothing."""
        exchange = self._exchanges.get(uid)
        if exchange is None or exchange.replied or exchange.is_refused:
            return
        exchange.replied = at
        if exchange.answered and self._job.waits_for_reply:
            self._open -= 1
            if self._job.rate is None:
                self._free(next(made for made, asked in self._asking.items() if asked == uid))
        self._end_if_done()

    def _free(self, connection: Connection) -> None:
        if self._job.rate is not None:
            self._idle.append(connection)
            self._send_due()
        elif self._unsent and time.monotonic() < self._ends_at:
            self._ask(connection, time.monotonic())
        else:
            self._is_sending = False

    def _end_if_done(self) -> None:
        if not (self._is_sending or self._open or self._due):
            self._done.set()

    def _measured(self, began: float) -> Measured:
        accepted = [exchange for exchange in self._exchanges.values() if not exchange.is_refused]
        whole = [(exchange.started, end) for exchange in accepted if (end := self._end_of(exchange))]
        is_cut = self._job.rate is None and not self._unsent  # used up before the time was over
        ends_at = min(self._ends_at, max((end for _, end in whole), default=began)) if is_cut else self._ends_at
        latencies_ms = [(end - started) * 1000 for started, end in whole]
        return Measured(
            sent=len(self._exchanges),
            finished=sum(end <= ends_at for _, end in whole),
            errors=len(self._exchanges) - len(accepted),
            lost=len(accepted) - len(whole),
            seconds=ends_at - began,
            p50_ms=middle(latencies_ms),
            p99_ms=percentile(latencies_ms, 0.99),
        )

    def _end_of(self, exchange: Exchange) -> float:
        """Zero while it is under way."""
        return exchange.replied if self._job.waits_for_reply else exchange.answered
