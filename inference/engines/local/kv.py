"""The keys and values of all sequences: for each layer two tensors of pages. Knows no sequence and no schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.memory import in_large_pages
from inference.engines.local.mirror import Mirror


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer puts into the cache, as it was seen when the model was tried out."""

    kv_heads: int
    key_size: int
    value_size: int
    sliding_window: int | None = None

    @property
    def numbers_per_token(self) -> int:
        return self.kv_heads * (self.key_size + self.value_size)


class KVCache:
    """Each layer's keys and values are [pages, page, kv heads, size]; page 0 is nobody's.

    Zeroed, because what is beyond a sequence's end in its last page is masked, but still multiplied. ``mirrored``: what
    runs may be held a second time, as some attention reads it faster.
    """

    def __init__(
        self,
        layers: Sequence[LayerShape],
        pages: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        mirrored: bool = False,
    ) -> None:
        def zeros(layer: LayerShape, size: int) -> Tensor:
            room = torch.empty(pages + 1, PAGE_TOKENS, layer.kv_heads, size, dtype=dtype, device=device)
            return in_large_pages(room).zero_()

        self.keys = [zeros(layer, layer.key_size) for layer in layers]
        self.values = [zeros(layer, layer.value_size) for layer in layers]
        self.mirror = Mirror(self.keys, self.values) if mirrored else None

    @property
    def last_layer(self) -> int:
        return len(self.keys) - 1

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.keys[layer], self.values[layer]

    def write(self, layer: int, places: Tensor, key: Tensor, value: Tensor) -> None:
        """``key``, ``value``: [tokens, kv heads, size]; ``places``: int64 [tokens], page * page size + offset."""
        self.keys[layer].flatten(0, 1).index_copy_(0, places, key)
        self.values[layer].flatten(0, 1).index_copy_(0, places, value)

    def read(self, layer: int, table: Tensor) -> tuple[Tensor, Tensor]:
        """int [rows, pages] -> two [rows, kv heads, pages * page size, size]; a copy."""
        return _gathered(self.keys[layer], table), _gathered(self.values[layer], table)

    def scrub(self, pages: Sequence[int]) -> None:
        """Zero the pages of a sequence that went wrong: not-a-number would reach the next one that gets them."""
        chosen = torch.tensor(pages, device=self.keys[0].device)
        for layer in (*self.keys, *self.values):
            layer.index_fill_(0, chosen, 0)


def _gathered(layer: Tensor, table: Tensor) -> Tensor:
    rows, pages = table.shape
    return layer.index_select(0, table.flatten()).view(rows, pages * PAGE_TOKENS, *layer.shape[2:]).transpose(1, 2)
