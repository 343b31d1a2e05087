"""Attention on a CPU by our own C function, for single tokens: it reads the pages where they are.

Prompts, and numbers that are not float32, are computed by torch, as is everything where there is no C compiler.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property

import torch
from torch import Tensor

from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.batch import Batch
from inference.engines.local.kv import KVCache
from inference.engines.local.native import Heads, Native, native_for

_PAGES_A_THREAD = 128  # less work than this is not worth another thread


class NativeStep:
    """One step of one batch."""

    def __init__(self, cache: KVCache, batch: Batch) -> None:
        self._cache = cache
        self._batch = batch
        self._parts = _parts(batch.page_counts, torch.get_num_threads())
        self._prompts = CpuStep(cache, batch, without_singles=True)

    @cached_property
    def _torch_alone(self) -> CpuStep:
        return CpuStep(self._cache, self._batch)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None,
    ) -> Tensor:
        native = _functions(query, key, value)
        if native is None:
            return self._torch_alone.attend(
                layer, query, key, value, scaling=scaling, sliding_window=sliding_window, softcap=softcap
            )
        self._cache.write(layer, self._batch.places, key.transpose(0, 1), value.transpose(0, 1))
        parts = []
        if self._batch.single_count:
            parts.append(self._singles(native, layer, query, scaling, sliding_window, softcap))
        parts += self._prompts.chunks(layer, query, key, value, sliding_window, scaling, softcap)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _singles(
        self, native: Native, layer: int, query: Tensor, scaling: float, window: int | None, softcap: float | None
    ) -> Tensor:
        batch, (keys, values) = self._batch, self._cache.of(layer)
        asked = query[:, : batch.single_count].transpose(0, 1).contiguous()
        out = asked.new_empty(*asked.shape[:2], values.shape[-1])

        def compute(part: slice) -> None:
            native.attend(
                asked[part],
                keys,
                values,
                batch.table[part],
                batch.lengths[part],
                out[part],
                scaling=scaling,
                window=window,
                softcap=softcap,
            )

        others = [_threads().submit(compute, part) for part in self._parts[1:]]
        compute(self._parts[0])
        for other in others:
            other.result()
        return out


def _functions(query: Tensor, key: Tensor, value: Tensor) -> Native | None:
    if query.dtype != torch.float32:
        return None
    kv_heads = key.shape[0]
    return native_for(Heads(kv_heads, query.shape[0] // kv_heads, key.shape[-1], value.shape[-1]))


def _parts(page_counts: Rows[int], threads: int) -> list[slice]:
    """Neighbours, so that each part has about as many pages as the others; the rows come sorted by length."""
    total = sum(page_counts)
    wanted = max(1, min(threads, total // _PAGES_A_THREAD))
    parts: list[slice] = []
    first = pages = 0
    for at, count in enumerate(page_counts, 1):
        pages += count
        if pages * wanted >= total * (len(parts) + 1):
            parts.append(slice(first, at))
            first = at
    return parts or [slice(0, 0)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="local-attention")
