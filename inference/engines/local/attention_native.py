"""Attention on a CPU by our own C functions, which read the pages where they are.

Numbers that are not float32 are computed by torch, as is everything where there is no C compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.batch import Batch, Chunk
from inference.engines.local.kv import KVCache
from inference.engines.local.native import Heads, Native, native_for

_PAGES_A_THREAD = 128  # less work than this is not worth another thread
_TOKENS_A_PIECE = 32  # of a prompt that threads share: with any number of heads they fill whole registers

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a prompt: where they are in the batch, and in their sequence."""

    first: int
    count: int
    start: int
    table: Tensor  # int64 [pages]


@dataclass(frozen=True, slots=True)
class Work:
    """One layer's attention."""

    native: Native
    query: Tensor  # [tokens, heads, size]
    keys: Tensor  # [pages, page, kv heads, size], as are the values
    values: Tensor
    out: Tensor  # [tokens, heads, size of values]
    options: dict[str, Any]

    def singles(self, batch: Batch, rows: slice) -> None:
        table, lengths = batch.table[rows], batch.lengths[rows]
        self.native.attend(self.query[rows], self.keys, self.values, table, lengths, self.out[rows], **self.options)

    def prompts(self, pieces: Rows[Piece]) -> None:
        for piece in pieces:
            tokens = slice(piece.first, piece.first + piece.count)
            query, out = self.query[tokens], self.out[tokens]
            if piece.count > 1:
                self.native.attend_prompt(query, self.keys, self.values, piece.table, piece.start, out, **self.options)
            else:  # it would leave most lanes of a register empty
                table, length = piece.table[None].int(), torch.tensor([piece.start + 1])
                self.native.attend(query, self.keys, self.values, table, length, out, **self.options)


class NativeStep:
    """One step of one batch."""

    def __init__(self, cache: KVCache, batch: Batch) -> None:
        self._cache = cache
        self._batch = batch
        self._threads = torch.get_num_threads()
        self._singles = _parts(batch.page_counts, self._threads)
        self._prompts = _shares([_whole(chunk) for chunk in batch.chunks], self._threads)

    def kept(self, layer: int) -> Tensor | None:
        """The tokens that a layer owes anything of, int64; None: all. Of the last layer nobody reads the others."""
        return self._kept if layer == self._cache.last_layer else None

    @cached_property
    def _kept(self) -> Tensor | None:
        keep = self._batch.keep
        return torch.tensor(keep, dtype=torch.int64) if len(keep) < len(self._batch.ids) else None

    @cached_property
    def _kept_prompts(self) -> list[list[Piece]]:
        keep = set(self._batch.keep)
        ends = [_end(chunk) for chunk in self._batch.chunks if chunk.first + chunk.count - 1 in keep]
        return _shares(ends, self._threads)

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
        """Rows that are not kept are zeros."""
        native = _functions(query, key, value)
        if native is None:
            return self._torch_alone.attend(
                layer, query, key, value, scaling=scaling, sliding_window=sliding_window, softcap=softcap
            )
        self._cache.write(layer, self._batch.places, key.transpose(0, 1), value.transpose(0, 1))
        keys, values = self._cache.of(layer)
        spares = self.kept(layer) is not None
        out = query.new_zeros if spares else query.new_empty
        work = Work(
            native,
            query.transpose(0, 1).contiguous(),
            keys,
            values,
            out(query.shape[1], query.shape[0], values.shape[-1]),
            {"scaling": scaling, "window": sliding_window, "softcap": softcap},
        )
        _shared(partial(work.singles, self._batch), self._singles)
        _shared(work.prompts, self._kept_prompts if spares else self._prompts)
        return work.out


def _functions(query: Tensor, key: Tensor, value: Tensor) -> Native | None:
    if query.dtype != torch.float32:
        return None
    kv_heads = key.shape[0]
    return native_for(Heads(kv_heads, query.shape[0] // kv_heads, key.shape[-1], value.shape[-1]))


def _whole(chunk: Chunk) -> Piece:
    return Piece(chunk.first, chunk.count, chunk.start, chunk.table[0])


def _end(chunk: Chunk) -> Piece:
    """Its last token."""
    return Piece(chunk.first + chunk.count - 1, 1, chunk.length - 1, chunk.table[0])


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
    return parts


def _shares(pieces: list[Piece], threads: int) -> list[list[Piece]]:
    """For each thread as much as for any other: small pieces, of which each takes the next, as later ones cost more."""
    wanted = min(threads, sum(piece.count * len(piece.table) for piece in pieces) // _PAGES_A_THREAD)
    if wanted <= 1:
        return [pieces] if pieces else []
    small = [part for piece in pieces for part in _cut(piece)]
    return [share for at in range(wanted) if (share := small[at::wanted])]


def _cut(piece: Piece) -> list[Piece]:
    return [
        Piece(piece.first + at, min(_TOKENS_A_PIECE, piece.count - at), piece.start + at, piece.table)
        for at in range(0, piece.count, _TOKENS_A_PIECE)
    ]


def _shared(work: Callable[[Part], None], parts: list[Part]) -> None:
    """Each part in a thread of its own; the first in this one."""
    others = [_threads().submit(work, part) for part in parts[1:]]
    for part in parts[:1]:
        work(part)
    for other in others:
        other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="local-attention")
