"""Steps of single tokens, recorded once for each size and then repeated: a launch costs one call instead of hundreds.

A recorded step reads from fixed places (``DecodeBuffers``) and writes to fixed ones. All other steps run as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from inference.engines.local.adapter import Adapter
from inference.engines.local.decode_buffers import DecodeBuffers
from inference.engines.local.runner import Launched, Runner, StepRunner
from inference.engines.local.sampling import sample
from inference.engines.local.sequence import Row

logger = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)

Work = Callable[[], None]


class Recorder(Protocol):
    """Turns work on fixed tensors into a call that does it again."""

    def record(self, work: Work) -> Work: ...


class CudaGraphs:
    """All share one pool of memory: only one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Work) -> Work:
        """What must happen once (compiling kernels, choosing algorithms) happens before, on a stream of its own."""
        apart, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        apart.wait_stream(main)
        with torch.cuda.stream(apart):
            work()
            work()
        main.wait_stream(apart)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        replay: Work = graph.replay
        return replay


class Again:
    """Where there are no graphs, the work itself: slow, and of the same effect."""

    def record(self, work: Work) -> Work:
        work()
        return work


@dataclass(frozen=True, slots=True)
class Recording:
    """``greedy`` for when no row draws: it has no candidates to sort."""

    buffers: DecodeBuffers
    ids: Tensor  # int64 [size]
    greedy: Work
    drawing: Work


class GraphRunner:
    """A Runner whose steps of single tokens are recorded."""

    def __init__(self, eager: Runner, recorder: Recorder, sizes: Iterable[int]) -> None:
        self.rows = 0  # replayed so far, without and with those that fill up a size
        self.padded_rows = 0
        self._eager = eager
        self._recordings = {size: self._recorded(size, recorder) for size in sorted(sizes, reverse=True)}
        self._sizes = sorted(self._recordings)

    @torch.inference_mode()
    def launch(self, plan: list[Row]) -> Launched:
        """As ``Runner.launch``."""
        size = next((size for size in self._sizes if size >= len(plan)), None)
        if size is None or not all(row.count == 1 and row.samples for row in plan):
            return self._eager.launch(plan)
        recording = self._recordings[size]
        draws = recording.buffers.fill(plan, self._eager.tables)
        (recording.drawing if draws else recording.greedy)()
        self.rows += len(plan)
        self.padded_rows += size
        return Launched(plan, [row.sequence for row in plan], recording.ids[: len(plan)])

    def scrub(self, pages: list[int]) -> None:
        self._eager.scrub(pages)

    @torch.inference_mode()
    def _recorded(self, size: int, recorder: Recorder) -> Recording:
        eager = self._eager
        buffers = DecodeBuffers(size, eager.max_pages, eager.spare_slot, eager.device)
        ids = torch.zeros(size, dtype=torch.int64, device=eager.device)
        keep = torch.arange(size, device=eager.device)

        def work(*, draws: bool) -> None:
            step = eager.backend.make_step(eager.cache, buffers.batch)
            logits = eager.adapter.forward(buffers.known_ids(eager.last_ids), buffers.batch.positions, keep, step)
            ids.copy_(sample(logits, buffers.choices if draws else None, eager.backend.pick))
            eager.last_ids.index_copy_(0, buffers.slots, ids)

        return Recording(
            buffers, ids, recorder.record(lambda: work(draws=False)), recorder.record(lambda: work(draws=True))
        )


def sizes_for(max_running: int) -> list[int]:
    """Up to what may run at once, which is a size itself."""
    return [*(size for size in SIZES if size < max_running), max_running]


def with_graphs(eager: Runner, recorder: Recorder, max_running: int) -> StepRunner:
    """The runner itself, with a warning, where the model's steps cannot be recorded."""
    if not is_recordable(eager.adapter):
        logger.warning("this model looks at its numbers while it runs; its steps are not recorded")
        return eager
    try:
        return GraphRunner(eager, recorder, sizes_for(max_running))
    except RuntimeError:  # also for want of memory: then each step is launched as before
        logger.warning("the steps could not be recorded", exc_info=True)
        return eager


def is_recordable(adapter: Adapter) -> bool:
    """Whether the model's code runs without ever asking the device for a number. Tried on tensors without numbers."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
            token = torch.zeros(2, dtype=torch.int64, device=adapter.device)
            adapter.forward(token, token, token, _Blank())
    except RuntimeError:
        return False
    return True


class _Blank:
    """A Step without a cache."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[2])
