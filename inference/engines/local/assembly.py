"""From a loaded model to a core that runs it: paged where we understand the model, else by plain ``generate``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from inference.engines.local.adapter import Adapter, safe_context_tokens
from inference.engines.local.attention import UnknownAttention
from inference.engines.local.core import Core, PagedCore
from inference.engines.local.graphs import Again, CudaGraphs, with_graphs
from inference.engines.local.kv import KVCache
from inference.engines.local.limits import PAGE_TOKENS, EngineLimits
from inference.engines.local.memory import cache_bytes
from inference.engines.local.model import LocalModel
from inference.engines.local.pages import PagePool
from inference.engines.local.plain import PlainCore
from inference.engines.local.runner import Runner, StepRunner
from inference.engines.local.selftest import mismatch, references
from inference.engines.local.sequence import Event, pages_for

logger = logging.getLogger(__name__)

Deliver = Callable[[list[Event]], None]


@dataclass(frozen=True, slots=True)
class Assembly:
    """A way to run one model. ``build`` makes it anew, with an empty cache; ``close`` leaves the model as it was."""

    build: Callable[[Deliver], Core]
    close: Callable[[], None]
    context_tokens: int
    path: str
    reason: str = ""  # why it is not the fast one


def assemble(loaded: LocalModel, limits: EngineLimits) -> Assembly:
    """Tries the paged way out; falls back with a warning that says why."""
    context_tokens = min(limits.max_context_tokens or loaded.context_tokens, loaded.context_tokens)
    wanted = references(loaded)
    try:
        adapter = Adapter(loaded.model)
    except UnknownAttention as error:
        return _plain(loaded, context_tokens, str(error))
    context_tokens = min(context_tokens, safe_context_tokens(loaded.model.config))
    paged = _Paged(loaded, adapter, limits, context_tokens)
    if difference := mismatch(paged.build(), wanted, loaded.model.dtype):
        adapter.restore()
        return _plain(loaded, context_tokens, difference)
    return Assembly(lambda deliver: paged.build(), adapter.restore, paged.context_tokens, "paged")


def _plain(loaded: LocalModel, context_tokens: int, reason: str) -> Assembly:
    logger.warning("this model answers one request at a time", extra={"reason": reason})
    return Assembly(lambda deliver: PlainCore(loaded, deliver), lambda: None, context_tokens, "generate", reason)


class _Paged:
    def __init__(self, loaded: LocalModel, adapter: Adapter, limits: EngineLimits, context_tokens: int) -> None:
        self._loaded, self._adapter, self._limits = loaded, adapter, limits
        self._pages = _page_count(loaded, adapter, limits, context_tokens)
        self.context_tokens = min(context_tokens, self._pages * PAGE_TOKENS)
        if self.context_tokens < context_tokens:
            logger.warning("little memory: the model's context is cut", extra={"context_tokens": self.context_tokens})

    def build(self) -> PagedCore:
        device, limits = self._loaded.device, self._limits
        dtype, mirrored = self._loaded.model.dtype, self._adapter.backend.mirrors
        cache = KVCache(self._adapter.layers, self._pages, dtype, device, mirrored=mirrored)
        eager = Runner(
            self._adapter,
            cache,
            device,
            max_running=limits.max_running,
            max_pages=pages_for(self.context_tokens),
        )
        runner: StepRunner = eager
        if limits.graphs or (limits.graphs is None and device.type == "cuda"):
            runner = with_graphs(eager, CudaGraphs() if device.type == "cuda" else Again(), limits.max_running)
        look_ahead = device.type == "cuda" if limits.look_ahead is None else limits.look_ahead
        return PagedCore(runner, PagePool(self._pages), limits, look_ahead=look_ahead)


def _page_count(loaded: LocalModel, adapter: Adapter, limits: EngineLimits, context_tokens: int) -> int:
    """As many as the memory allows, but no more than all running sequences can fill."""
    if limits.kv_cache_pages is not None:
        return limits.kv_cache_pages
    dtype: torch.dtype = loaded.model.dtype
    copies = 2 if adapter.backend.mirrors else 1
    page_bytes = copies * PAGE_TOKENS * dtype.itemsize * sum(layer.numbers_per_token for layer in adapter.layers)
    wanted = pages_for(context_tokens) * (limits.max_running + 1)  # one more: for what nobody holds, but may come back
    return max(1, min(wanted, cache_bytes(loaded.device, limits.kv_cache_bytes) // page_bytes))
