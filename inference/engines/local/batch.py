"""A plan as tensors: the tokens of a step, where each one's keys and values go, and whose pages each may read."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.sequence import Row, Sequence
from inference.engines.local.transfer import upload
from inference.engines.local.vision import Picture


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens ``first`` to ``first + count`` of the batch are those from ``start`` on of one sequence."""

    first: int
    count: int
    start: int
    table: Tensor  # int64 [1, pages]

    @property
    def length(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Batch:
    """First the rows of one token, the shortest sequence first, then the chunks. T tokens, S single ones."""

    rows: list[Row]
    ids: Tensor  # int64 [T]; 0 for a token that is still on the device
    positions: Tensor  # int64 [T]
    places: Tensor  # int64 [T], page * page size + offset
    single_count: int
    page_counts: list[int]  # [S]
    table: Tensor  # int32 [S, pages], filled up with 0
    lengths: Tensor  # int64 [S], the new token included
    chunks: list[Chunk]
    keep: list[int]  # the tokens after which one is sampled
    sampled: list[Sequence]  # for whom
    unknown: list[int]  # the tokens that are still on the device
    picture: Picture | None = None  # of the batch's only row


class Tables:
    """The pages of all running sequences on the host, a row for each slot, so that a step copies and does not build."""

    def __init__(self, slots: int, pages: int) -> None:
        self._pages: NDArray[np.int32] = np.zeros((slots, pages), dtype=np.int32)
        self._seen: list[list[int] | None] = [None] * slots
        self._counts = [0] * slots

    def rows(self, sequences: Rows[Sequence], width: int) -> NDArray[np.int32]:
        for sequence in sequences:
            self._follow(sequence)
        chosen: NDArray[np.int32] = self._pages[[sequence.slot for sequence in sequences], :width]
        return chosen

    def _follow(self, sequence: Sequence) -> None:
        slot, pages = sequence.slot, sequence.pages
        if self._seen[slot] is not pages:  # a sequence that lost its pages has another list
            self._pages[slot] = 0
            self._seen[slot], self._counts[slot] = pages, 0
        if (known := self._counts[slot]) < len(pages):
            self._pages[slot, known : len(pages)] = pages[known:]
            self._counts[slot] = len(pages)


def make_batch(plan: list[Row], tables: Tables, device: torch.device) -> Batch:
    singles = sorted((row for row in plan if row.count == 1), key=lambda row: row.start)
    rows = singles + [row for row in plan if row.count > 1]
    ids: list[int] = []
    positions: list[int] = []
    places: list[int] = []
    keep: list[int] = []
    unknown: list[int] = []
    for row in rows:
        sequence, end = row.sequence, row.start + row.count
        if end > len(sequence.tokens):
            unknown.append(len(ids) + row.count - 1)
        ids += [*sequence.tokens[row.start : end], 0][: row.count]
        offset = sequence.picture.offset if sequence.picture else 0
        positions += range(row.start + offset, end + offset)
        places += [sequence.pages[at // PAGE_TOKENS] * PAGE_TOKENS + at % PAGE_TOKENS for at in range(row.start, end)]
        if row.samples:
            keep.append(len(ids) - 1)
    counts = [row.start // PAGE_TOKENS + 1 for row in singles]
    table = tables.rows([row.sequence for row in singles], max(counts, default=0))
    return Batch(
        rows=rows,
        ids=upload(ids, device),
        positions=upload(positions, device),
        places=upload(places, device),
        single_count=len(singles),
        page_counts=counts,
        table=upload(torch.from_numpy(table), device),
        lengths=upload([row.start + 1 for row in singles], device),
        chunks=_chunks(rows, len(singles), device),
        keep=keep,
        sampled=[row.sequence for row in rows if row.samples],
        unknown=unknown,
        picture=rows[0].sequence.picture if rows[0].sequence.needs_picture else None,
    )


def _chunks(rows: list[Row], first: int, device: torch.device) -> list[Chunk]:
    chunks = []
    for row in rows[first:]:
        pages = row.sequence.pages[: -(-(row.start + row.count) // PAGE_TOKENS)]
        table = upload(pages, device)[None]
        chunks.append(Chunk(first, row.count, row.start, table))
        first += row.count
    return chunks
