"""Runs one step on the model's device: a plan in, the sampled ids out. Owns the cache and what stays on the device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from inference.engines.local.adapter import Adapter
from inference.engines.local.batch import Batch, Tables, make_batch
from inference.engines.local.kv import KVCache
from inference.engines.local.sampling import choices_of, sample
from inference.engines.local.sequence import Row, Sequence
from inference.engines.local.transfer import Download, upload


class Launched:
    """A step under way. ``ids`` waits for it."""

    def __init__(self, plan: list[Row], sampled: list[Sequence], ids: Tensor) -> None:
        self.plan = plan
        self.sampled = sampled
        self.began_at = 0.0  # as the core tells
        self._ids = Download(ids)

    def ids(self) -> list[int]:
        return self._ids.wait()


class StepRunner(Protocol):
    """What a core needs."""

    def launch(self, plan: list[Row]) -> Launched: ...
    def scrub(self, pages: list[int]) -> None: ...


class Runner:
    """``max_pages`` is how many pages one sequence can have."""

    def __init__(
        self,
        adapter: Adapter,
        cache: KVCache,
        device: torch.device,
        *,
        max_running: int,
        max_pages: int,
    ) -> None:
        self.adapter = adapter
        self.cache = cache
        self.device = device
        self.max_pages = max_pages
        self.tables = Tables(max_running, max_pages)
        self.spare_slot = max_running
        self.last_ids = torch.zeros(max_running + 1, dtype=torch.int64, device=device)  # by slot
        self.backend = adapter.backend

    @torch.inference_mode()
    def launch(self, plan: list[Row]) -> Launched:
        """Start to compute a plan. Changes nothing but the pages and slots of its sequences, so it can be repeated."""
        batch = make_batch(plan, self.tables, self.device)
        ids = self._sampled(self._logits(batch), batch)
        return Launched(plan, batch.sampled, ids)

    def scrub(self, pages: list[int]) -> None:
        self.cache.scrub(pages)

    def _logits(self, batch: Batch) -> Tensor:
        ids = batch.ids
        if batch.unknown:
            slots = [row.sequence.slot for row in batch.rows if row.start == len(row.sequence.tokens)]
            known = self.last_ids[upload(slots, self.device)].clamp(min=0)
            ids.index_copy_(0, upload(batch.unknown, self.device), known)
        keep = upload(batch.keep, self.device)
        step = self.backend.make_step(self.cache, batch)
        if batch.picture is None:
            return self.adapter.forward(ids, batch.positions, keep, step)
        positions, seen = batch.picture.for_tokens(len(ids), self.device)
        return self.adapter.forward(ids, positions, keep, step, **seen)

    def _sampled(self, logits: Tensor, batch: Batch) -> Tensor:
        ids = sample(logits, choices_of(batch.sampled, self.device), self.backend.pick)
        if batch.sampled:
            slots = upload([sequence.slot for sequence in batch.sampled], self.device)
            self.last_ids.index_copy_(0, slots, ids)
        return ids
