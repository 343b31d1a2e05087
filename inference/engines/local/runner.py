"""Runs one step on the model's device: a plan in, the sampled ids out. Owns the cache and what stays on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.engines.local.adapter import Adapter
from inference.engines.local.attention import Step
from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.batch import Batch, Tables, make_batch
from inference.engines.local.kv import KVCache
from inference.engines.local.sampling import choices_of, sample
from inference.engines.local.sequence import Row, Sequence

StepMaker = Callable[[KVCache, Batch], Step]


@dataclass(frozen=True, slots=True)
class Launched:
    """A step under way. ``ids`` waits for it."""

    plan: list[Row]
    sampled: list[Sequence]
    ids_on_device: Tensor

    def ids(self) -> list[int]:
        found: list[int] = self.ids_on_device.tolist()
        return found


class Runner:
    """``max_pages`` is how many pages one sequence can have."""

    def __init__(
        self, adapter: Adapter, cache: KVCache, device: torch.device, *, max_running: int, max_pages: int
    ) -> None:
        self._adapter = adapter
        self._cache = cache
        self._device = device
        self._tables = Tables(max_running, max_pages)
        self._last_ids = torch.zeros(max_running, dtype=torch.int64, device=device)  # by slot
        self._make_step = step_maker(device)

    @torch.inference_mode()
    def launch(self, plan: list[Row]) -> Launched:
        """Start to compute a plan. Changes nothing but the pages and slots of its sequences, so it can be repeated."""
        batch = make_batch(plan, self._tables, self._device)
        ids = self._sampled(self._logits(batch), batch)
        return Launched(plan, batch.sampled, ids)

    def scrub(self, pages: list[int]) -> None:
        self._cache.scrub(pages)

    def _logits(self, batch: Batch) -> Tensor:
        ids = batch.ids
        if batch.unknown:
            slots = [row.sequence.slot for row in batch.rows if row.start == len(row.sequence.tokens)]
            ids[batch.unknown] = self._last_ids[slots].clamp(min=0)
        keep = torch.tensor(batch.keep, dtype=torch.int64, device=self._device)
        step = self._make_step(self._cache, batch)
        if batch.picture is None:
            return self._adapter.forward(ids, batch.positions, keep, step)
        positions, seen = batch.picture.for_tokens(len(ids), self._device)
        return self._adapter.forward(ids, positions, keep, step, **seen)

    def _sampled(self, logits: Tensor, batch: Batch) -> Tensor:
        ids = sample(logits, choices_of(batch.sampled, self._device))
        if batch.sampled:
            self._last_ids[[sequence.slot for sequence in batch.sampled]] = ids
        return ids


def step_maker(device: torch.device) -> StepMaker:
    """Which attention computes a step on this device."""
    return CpuStep
