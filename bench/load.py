"""The load generator: people and their chat platform in a process of their own. `Load` is its handle.

The process says its platform's port, then takes jobs as JSON lines and answers each with what it measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from bench.callbacks import callbacks
from bench.measured import Door, Job, Measured
from bench.run import Run
from bench.wire import Platform


class Load:
    """Raises RuntimeError when the process ended."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "bench.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.platform_port = int(self._line())

    def run(self, job: Job) -> Measured:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return Measured(**json.loads(self._line()))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended with {self._process.wait(10)}")
        return line


class _Generator:
    def __init__(self) -> None:
        self._run: Run | None = None

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Platform(self._on_reply), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        print(port, flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(asdict(await self._measure(_job(line), port))), flush=True)

    async def _measure(self, job: Job, port: int) -> Measured:
        self._run = Run(job, callbacks(job, port))
        gc.collect()
        gc.disable()  # its pauses would be the site's latencies
        try:
            return await self._run.measure()
        finally:
            gc.enable()

    def _on_reply(self, uid: str, at: float) -> None:
        if self._run:
            self._run.on_reply(uid, at)


def _job(line: str) -> Job:
    given: dict[str, Any] = json.loads(line)
    return Job(**{**given, "door": Door(**given["door"])})


if __name__ == "__main__":
    asyncio.run(_Generator().serve())
