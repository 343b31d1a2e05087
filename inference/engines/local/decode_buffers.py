"""The fixed places from which a recorded step of single tokens reads what is new: one copy fills them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.engines.local.batch import Batch, Tables
from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.sampling import CANDIDATES, Choices
from inference.engines.local.sequence import Row, Sequence
from inference.engines.local.transfer import refill

_IDS, _POSITIONS, _PLACES, _LENGTHS, _SLOTS, _IS_KNOWN = range(6)
_TOP_K, _SEED, _CHANCE, _TEMPERATURE, _TOP_P = range(6, 11)
_FIELDS = 11  # int64; the last two are float64 in the same bits


class DecodeBuffers:
    """For ``size`` rows. Those that are not needed compute token 0 of nobody: on page 0, for a slot that is spare."""

    def __init__(self, size: int, max_pages: int, spare_slot: int, device: torch.device) -> None:
        self._idle: NDArray[np.int64] = np.zeros((_FIELDS, size), dtype=np.int64)
        self._idle[[_LENGTHS, _IS_KNOWN, _TOP_K]] = 1
        self._idle[_SLOTS] = spare_slot
        self._numbers = torch.from_numpy(self._idle).to(device, copy=True)
        self._table = torch.zeros(size, max_pages, dtype=torch.int32, device=device)
        self.batch = Batch(
            rows=[],
            ids=self._numbers[_IDS],
            positions=self._numbers[_POSITIONS],
            places=self._numbers[_PLACES],
            single_count=size,
            page_counts=[max_pages] * size,
            table=self._table,
            lengths=self._numbers[_LENGTHS],
            chunks=[],
            keep=list(range(size)),
            sampled=[],
            unknown=[],
        )

    @property
    def slots(self) -> Tensor:
        return self._numbers[_SLOTS]

    @property
    def choices(self) -> Choices:
        temperature, top_p = self._numbers[_TEMPERATURE:].view(torch.float64).float()
        numbers = self._numbers
        return Choices(temperature, top_p, numbers[_TOP_K], numbers[_SEED], numbers[_CHANCE])

    def known_ids(self, last_ids: Tensor) -> Tensor:
        """The rows' tokens; of those that the host did not know yet, what was sampled last in their slot."""
        return torch.where(self._numbers[_IS_KNOWN] > 0, self.batch.ids, last_ids[self.slots].clamp(min=0))

    def fill(self, plan: list[Row], tables: Tables) -> bool:
        """Tell the device what to compute next. Returns whether any row draws its token."""
        numbers = self._idle.copy()
        sequences = [row.sequence for row in plan]
        count = len(plan)
        numbers[:_TOP_K, :count] = np.array([_numbers(row) for row in plan]).T
        if draws := any(sequence.sampling.temperature for sequence in sequences):
            _put_choices(numbers[:, :count], sequences)
        refill(self._numbers, torch.from_numpy(numbers))
        width = max(row.start for row in plan) // PAGE_TOKENS + 1
        table: NDArray[np.int32] = np.zeros((self._table.shape[0], width), dtype=np.int32)
        table[:count] = tables.rows(sequences, width)
        refill(self._table[:, :width], torch.from_numpy(table))
        return draws


def _numbers(row: Row) -> tuple[int, int, int, int, int, bool]:
    """In the order of the fields."""
    sequence, start = row.sequence, row.start
    is_known = start < len(sequence.tokens)
    offset = sequence.picture.offset if sequence.picture else 0
    place = sequence.pages[start // PAGE_TOKENS] * PAGE_TOKENS + start % PAGE_TOKENS
    return (sequence.tokens[start] if is_known else 0, start + offset, place, start + 1, sequence.slot, is_known)


def _put_choices(numbers: NDArray[np.int64], sequences: list[Sequence]) -> None:
    chosen = [sequence.sampling for sequence in sequences]
    numbers[_TOP_K] = [sampling.top_k or CANDIDATES for sampling in chosen]
    numbers[_SEED] = [sampling.seed for sampling in chosen]
    numbers[_CHANCE] = [len(sequence.tokens) + sequence.in_flight for sequence in sequences]
    floats = np.array([[sampling.temperature for sampling in chosen], [sampling.top_p for sampling in chosen]])
    numbers[[_TEMPERATURE, _TOP_P]] = floats.view(np.int64)
