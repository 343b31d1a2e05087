"""The keys and values of running sequences once more, each sequence's side by side: attention that need not gather.

On a CPU, gathering pages in each step costs more than the attention itself; a row is gathered once, then appended to.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.sequence import Row, Sequence, pages_for


@dataclass(slots=True)
class Region:
    """Places ``start`` to ``start + room``, of which ``held`` are filled. ``pages``: a sequence that lost its pages has
    another list."""

    sequence: Sequence
    pages: list[int]
    start: int
    room: int
    held: int = 0

    @property
    def is_current(self) -> bool:
        return self.sequence.is_running and self.sequence.pages is self.pages


class Mirror:
    """Each layer's keys and values are [kv heads, places, size]. Memory is touched only where it is used."""

    def __init__(self, keys: Rows[Tensor], values: Rows[Tensor]) -> None:
        """Of the size of these pages: [pages, page, kv heads, size] for each layer."""
        self.keys = [_side_by_side(layer) for layer in keys]
        self.values = [_side_by_side(layer) for layer in values]
        self._places = self.keys[0].shape[1]
        self._regions: dict[int, Region] = {}  # by slot

    def region(self, row: Row) -> Region | None:
        """Where this row's sequence is, or will be; None when there is no room."""
        sequence = row.sequence
        found = self._regions.get(sequence.slot)
        if found is None or found.sequence is not sequence or not found.is_current:
            found = self._begun(sequence)
        return found

    def fill(self, layer: int, region: Region, keys: Tensor, values: Tensor) -> None:
        """Copy a sequence from its first token on: two [tokens, kv heads, size]."""
        part = slice(region.start, region.start + len(keys))
        self.keys[layer][:, part] = keys.transpose(0, 1)
        self.values[layer][:, part] = values.transpose(0, 1)

    def append(self, layer: int, places: Tensor, key: Tensor, value: Tensor) -> None:
        """One token for each of some sequences: int64 [rows], two [kv heads, rows, size]."""
        self.keys[layer].index_copy_(1, places, key)
        self.values[layer].index_copy_(1, places, value)

    def _begun(self, sequence: Sequence) -> Region | None:
        self._regions = {slot: region for slot, region in self._regions.items() if region.is_current}
        self._regions.pop(sequence.slot, None)
        room = pages_for(sequence.prompt_tokens + sequence.max_new_tokens) * PAGE_TOKENS
        start = self._gap(room)
        if start is None:
            return None
        region = self._regions[sequence.slot] = Region(sequence, sequence.pages, start, room)
        return region

    def _gap(self, room: int) -> int | None:
        """The first that is large enough."""
        start = 0
        for region in sorted(self._regions.values(), key=lambda region: region.start):
            if region.start - start >= room:
                return start
            start = region.start + region.room
        return start if self._places - start >= room else None


def _side_by_side(layer: Tensor) -> Tensor:
    pages, page, kv_heads, size = layer.shape
    return torch.empty(kv_heads, pages * page, size, dtype=layer.dtype, device=layer.device)
