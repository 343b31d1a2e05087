"""Logits to token ids, all rows of a step in one pass on their device.

A row's token depends on its own logits, seed and place alone: chance comes from a hash of (seed, place), not from a
generator that others draw from too. So a seed repeats an answer whatever else runs, and whatever was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.engines.local.sequence import Sequence
from inference.engines.local.transfer import upload

CANDIDATES = 256  # of the vocabulary; what comes after them is never sampled
NO_NUMBERS = -1  # the id of a row whose logits are not finite


@dataclass(frozen=True, slots=True)
class Choices:
    """How to choose in each row; float32 and int64 [rows]."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    seed: Tensor
    place: Tensor


def choices_of(sequences: Rows[Sequence], device: torch.device) -> Choices | None:
    """None when all rows are greedy."""
    chosen = [sequence.sampling for sequence in sequences]
    if not any(sampling.temperature for sampling in chosen):
        return None
    return Choices(
        temperature=upload([s.temperature for s in chosen], device, torch.float32),
        top_p=upload([s.top_p for s in chosen], device, torch.float32),
        top_k=upload([s.top_k or CANDIDATES for s in chosen], device),
        seed=upload([s.seed for s in chosen], device),
        place=upload([len(s.tokens) + s.in_flight for s in sequences], device),
    )


def pick(candidates: Tensor, choices: Choices) -> Tensor:
    """Draw one of the candidates in each row: float32 [rows, candidates], the likeliest first -> int64 [rows]."""
    rank = torch.arange(candidates.shape[-1], device=candidates.device)
    candidates = candidates.masked_fill(rank >= choices.top_k[:, None], -torch.inf)
    chances = (candidates / choices.temperature.clamp(min=1e-4)[:, None]).softmax(dim=-1)
    before = chances.cumsum(dim=-1) - chances
    chances = chances.masked_fill(before >= choices.top_p[:, None], 0)
    sums = chances.cumsum(dim=-1)
    drawn = uniform(choices.seed, choices.place)[:, None] * sums[:, -1:]
    return (sums <= drawn).sum(dim=-1).clamp(max=candidates.shape[-1] - 1)


Pick = Callable[[Tensor, Choices], Tensor]


def sample(logits: Tensor, choices: Choices | None, pick: Pick = pick) -> Tensor:
    """[rows, vocabulary] -> int64 [rows]."""
    highest, ids = logits.max(dim=-1)
    if choices is not None:
        candidates, known_as = logits.float().topk(min(CANDIDATES, logits.shape[-1]), dim=-1)
        drawn = known_as.gather(1, pick(candidates, choices)[:, None])[:, 0]
        ids = torch.where(choices.temperature > 0, drawn, ids)
    return torch.where(torch.isfinite(highest), ids, NO_NUMBERS)


def uniform(seed: Tensor, place: Tensor) -> Tensor:
    """int64 -> float32 in [0, 1): SplitMix64, whose overflow is meant (Steele, Lea and Flood, 2014)."""
    mixed = seed + (place + 1) * -0x61C8864680B583EB
    mixed = (mixed ^ _shifted(mixed, 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ _shifted(mixed, 27)) * -0x6B2FB644ECCEEE15
    return _shifted(mixed ^ _shifted(mixed, 31), 40).float() / 2**24


def _shifted(number: Tensor, bits: int) -> Tensor:
    """A logical shift to the right, which torch has not."""
    return (number >> bits) & ((1 << (64 - bits)) - 1)
