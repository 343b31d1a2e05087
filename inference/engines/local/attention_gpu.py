"""Attention on a GPU: our paged kernel for single tokens, torch's variable-length one for prompts.

What those do not know (a softcap in a prompt, 32-bit numbers in a prompt, odd head sizes) is computed as on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from inference.engines.local import kernels
from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.batch import Batch, Chunk
from inference.engines.local.kv import KVCache
from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.transfer import upload


def _varlen_attention() -> Any:
    """None where torch is too old for it (before 2.10)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


_varlen_attn = _varlen_attention()
_KNOWN = set(signature(_varlen_attn).parameters) if _varlen_attn else set()
HAS_VARLEN = "window_size" in _KNOWN  # from torch 2.11 on; before, it had no windows
_GROUPED = {"enable_gqa": True} if "enable_gqa" in _KNOWN else {}  # before, fewer key heads are taken as they are
_VARLEN_TYPES = {torch.float16, torch.bfloat16}
_LARGEST_VARLEN_HEAD = 256


@dataclass(frozen=True, slots=True)
class Prompts:
    """The chunks of a batch, one after the other. Keys are those of the whole sequence so far."""

    first: int  # token of the batch
    query_ends: Tensor  # int32 [chunks + 1]
    key_ends: Tensor
    longest_query: int
    longest_key: int
    places: Tensor | None  # int64, of all their keys; None when every chunk begins its sequence


class GpuStep:
    """One step of one batch. Holds no number of the host that a replay would need anew."""

    def __init__(self, cache: KVCache, batch: Batch) -> None:
        self._cache = cache
        self._batch = batch
        self._prompts = _prompts(batch) if batch.chunks else None
        self._careful = CpuStep(cache, batch, without_singles=True)

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
        asked, new_keys, new_values = (_dense(given.transpose(0, 1)) for given in (query, key, value))
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        kernels.store(new_keys, new_values, keys, values, self._batch.places)
        parts = []
        if count := self._batch.single_count:
            table, lengths = self._batch.table, self._batch.lengths
            how: dict[str, Any] = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
            parts.append(kernels.attend(asked[:count], keys, values, table, lengths, **how))
        if self._prompts is None:
            return parts[0]
        if _is_for_varlen(query, value, softcap):
            parts.append(self._varlen(self._prompts, layer, asked, new_keys, new_values, scaling, sliding_window))
        else:
            parts += self._careful.chunks(layer, query, key, value, sliding_window, scaling, softcap)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _varlen(
        self,
        prompts: Prompts,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
    ) -> Tensor:
        if prompts.places is None:
            keys, values = key[prompts.first :], value[prompts.first :]
        else:
            pages = self._cache.keys[layer], self._cache.values[layer]
            keys, values = (kv.flatten(0, 1).index_select(0, prompts.places) for kv in pages)
        out: Tensor = _varlen_attn(
            query[prompts.first :].contiguous(),
            keys.contiguous(),
            values.contiguous(),
            prompts.query_ends,
            prompts.key_ends,
            prompts.longest_query,
            prompts.longest_key,
            scale=scaling,
            window_size=(-1 if window is None else window - 1, 0),  # a token's window counts itself, theirs does not
            **_GROUPED,
        )
        return out


def _is_for_varlen(query: Tensor, value: Tensor, softcap: float | None) -> bool:
    size = query.shape[-1]
    fits = size == value.shape[-1] and size % 8 == 0 and size <= _LARGEST_VARLEN_HEAD
    return HAS_VARLEN and query.is_cuda and softcap is None and query.dtype in _VARLEN_TYPES and fits


def _prompts(batch: Batch) -> Prompts:
    chunks, device = batch.chunks, batch.ids.device
    is_new = all(chunk.start == 0 for chunk in chunks)
    places = None if is_new else torch.cat([_places(chunk) for chunk in chunks])
    return Prompts(
        first=chunks[0].first,
        query_ends=_ends([chunk.count for chunk in chunks], device),
        key_ends=_ends([chunk.length for chunk in chunks], device),
        longest_query=max(chunk.count for chunk in chunks),
        longest_key=max(chunk.length for chunk in chunks),
        places=places,
    )


def _places(chunk: Chunk) -> Tensor:
    """Where the keys of its sequence are, from the first to its last."""
    in_page = torch.arange(PAGE_TOKENS, device=chunk.table.device)
    places: Tensor = (chunk.table[0, :, None] * PAGE_TOKENS + in_page).flatten()[: chunk.length]
    return places


def _ends(counts: list[int], device: torch.device) -> Tensor:
    ends = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
    return upload(ends, device)


def _dense(tensor: Tensor) -> Tensor:
    """The kernels want each head's numbers side by side."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
