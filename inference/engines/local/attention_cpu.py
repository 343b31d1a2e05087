"""Attention on a CPU: SDPA over gathered pages. Works on every device, and is exact; it is fast on CPUs only.

Rows of one token are computed together, by groups of similar length, so that one long talk does not make every short
one as expensive; long ones by themselves, over a copy in which their keys are side by side (``mirror``). The heads that
share a key head stand in as its queries: no key is copied for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, softmax

from inference.engines.local.batch import Batch, Chunk
from inference.engines.local.kv import KVCache
from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.mirror import Mirror, Region

Window = int | None

_GROUPED_PAGES = 6  # up to so many, gathering a group costs less than calling for each row


@dataclass(slots=True)
class Group:
    """Rows ``first`` to ``last`` of a batch's single tokens; no table is longer than twice the shortest."""

    first: int
    last: int
    table: Tensor  # int32 [rows, pages]
    lengths: Tensor  # int64 [rows], the new token included
    masks: dict[Window, Tensor | None] = field(default_factory=dict)

    def mask(self, window: Window, dtype: torch.dtype) -> Tensor | None:
        """[rows, 1, 1, keys], added to the scores; None where all is visible."""
        if window not in self.masks:
            self.masks[window] = self._mask(window, dtype)
        return self.masks[window]

    def _mask(self, window: Window, dtype: torch.dtype) -> Tensor | None:
        at = torch.arange(self.table.shape[1] * PAGE_TOKENS, device=self.table.device)
        lengths = self.lengths[:, None]
        hidden = at >= lengths
        if window is not None:
            hidden |= at < lengths - window
        return _added(hidden, dtype)[:, None, None] if hidden.any() else None


class CpuStep:
    """One step of one batch. ``without_singles``: another computes its rows of one token."""

    def __init__(self, cache: KVCache, batch: Batch, *, without_singles: bool = False) -> None:
        self._cache = cache
        self._places = batch.places
        self._mirrored = None if without_singles else mirrored(cache, batch)
        grouped = self._mirrored.first if self._mirrored else batch.single_count
        self._groups = [] if without_singles else _groups(batch, grouped)
        self._chunks = batch.chunks
        self._chunk_masks: dict[tuple[int, Window], Tensor | None] = {}

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
        self._cache.write(layer, self._places, key.transpose(0, 1), value.transpose(0, 1))
        parts = [
            self._single(layer, group, query[:, group.first : group.last], sliding_window, scaling, softcap)
            for group in self._groups
        ]
        if self._mirrored is not None:
            parts.append(self._mirrored.attend(layer, query, key, value, sliding_window, scaling, softcap))
        parts += self.chunks(layer, query, key, value, sliding_window, scaling, softcap)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def chunks(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        window: Window,
        scaling: float,
        softcap: float | None,
    ) -> list[Tensor]:
        """What the prompts' tokens get: for each chunk [count, heads, size]. Their keys are in the cache by now."""
        parts = []
        for at, chunk in enumerate(self._chunks):
            part = slice(chunk.first, chunk.first + chunk.count)
            if chunk.start == 0:
                keys, values = key[None, :, part], value[None, :, part]
            else:
                keys, values = (kv[:, :, : chunk.length] for kv in self._cache.read(layer, chunk.table))
            mask = self._chunk_mask(at, chunk, window, query.dtype)
            out = _attention(query[None, :, part], keys, values, mask, scaling, softcap, is_causal=mask is None)
            parts.append(out[0].transpose(0, 1))
        return parts

    def _single(
        self, layer: int, group: Group, query: Tensor, window: Window, scaling: float, softcap: float | None
    ) -> Tensor:
        keys, values = self._cache.read(layer, group.table)
        heads, rows, size = query.shape
        kv_heads = keys.shape[1]
        grouped = query.transpose(0, 1).reshape(rows, kv_heads, heads // kv_heads, size)
        out = _attention(grouped, keys, values, group.mask(window, query.dtype), scaling, softcap)
        return out.reshape(rows, heads, out.shape[-1])

    def _chunk_mask(self, at: int, chunk: Chunk, window: Window, dtype: torch.dtype) -> Tensor | None:
        """[1, 1, queries, keys]; None for a prompt from its start that fits into the window: plain causal."""
        if window is not None and window >= chunk.length:
            window = None
        if (at, window) not in self._chunk_masks:
            self._chunk_masks[at, window] = _causal(chunk, window, dtype)
        return self._chunk_masks[at, window]


class Mirrored:
    """The last rows of a batch's single tokens, each computed by itself over keys that are side by side."""

    def __init__(self, cache: KVCache, mirror: Mirror, batch: Batch, first: int, regions: list[Region]) -> None:
        self._cache, self._mirror, self.first = cache, mirror, first
        rows = batch.rows[first : batch.single_count]
        self._rows = list(zip(rows, regions, strict=True))
        self._fresh = [at for at, (row, region) in enumerate(self._rows) if region.held != row.start]
        self._tables = {at: batch.table[first + at, : batch.page_counts[first + at]] for at in self._fresh}
        self._places = torch.tensor([region.start + row.start for row, region in self._rows])
        for row, region in self._rows:
            region.held = row.start + 1

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        window: Window,
        scaling: float,
        softcap: float | None,
    ) -> Tensor:
        """Of the whole batch; the new keys are in the cache by now. Returns [rows, heads, size]."""
        mirror, part = self._mirror, slice(self.first, self.first + len(self._rows))
        mirror.append(layer, self._places, key[:, part], value[:, part])
        for at in self._fresh:
            row, region = self._rows[at]
            kv = (pages.index_select(0, self._tables[at]).flatten(0, 1) for pages in self._cache.of(layer))
            mirror.fill(layer, region, *(tokens[: row.start + 1] for tokens in kv))
        keys, values = mirror.keys[layer].transpose(1, 2), mirror.values[layer]
        heads, kv_heads = query.shape[0], keys.shape[0]
        asked = (query[:, part].transpose(0, 1) * scaling).reshape(len(self._rows), kv_heads, heads // kv_heads, -1)
        out = []
        for one, (row, region) in zip(asked.unbind(0), self._rows, strict=True):
            end = region.start + row.start + 1
            begin = region.start if window is None else max(region.start, end - window)
            scores = torch.bmm(one, keys[:, :, begin:end])
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            shares = softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
            out.append(torch.bmm(shares, values[:, begin:end]))
        return torch.stack(out).reshape(len(out), heads, -1)


def mirrored(cache: KVCache, batch: Batch) -> Mirrored | None:
    """The rows that are long enough; None where there is none, or no room for all of them."""
    if cache.mirror is None or not batch.rows:
        return None
    first = next((at for at, pages in enumerate(batch.page_counts) if pages > _GROUPED_PAGES), batch.single_count)
    regions = [region for row in batch.rows[first : batch.single_count] if (region := cache.mirror.region(row))]
    if not regions or len(regions) < batch.single_count - first:
        return None
    return Mirrored(cache, cache.mirror, batch, first, regions)


def _groups(batch: Batch, count: int) -> list[Group]:
    """The first rows of the batch; they come sorted by length."""
    groups, first = [], 0
    pages = batch.page_counts[:count]
    for at in range(1, len(pages) + 1):
        if at == len(pages) or pages[at] > 2 * pages[first]:
            table = batch.table[first:at, : pages[at - 1]]
            groups.append(Group(first, at, table, batch.lengths[first:at]))
            first = at
    return groups


def _causal(chunk: Chunk, window: Window, dtype: torch.dtype) -> Tensor | None:
    if chunk.start == 0 and window is None:
        return None
    device = chunk.table.device
    queries = torch.arange(chunk.start, chunk.length, device=device)[:, None]
    keys = torch.arange(chunk.length, device=device)
    hidden = keys > queries
    if window is not None:
        hidden |= keys <= queries - window
    return _added(hidden, dtype)[None, None]


def _added(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
    *,
    is_causal: bool = False,
) -> Tensor:
    """All are [rows, heads, tokens, size]; there may be fewer key heads."""
    heads_per_key = query.shape[1] // key.shape[1]
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scaling, is_causal=is_causal, enable_gqa=heads_per_key > 1
        )
    key, value = (kv.repeat_interleave(heads_per_key, dim=1) for kv in (key, value))
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * scaling / softcap)
    if mask is not None:
        scores += mask
    elif is_causal:
        scores += torch.full(scores.shape[2:], -torch.inf, device=scores.device).triu(1)
    return softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype) @ value
