"""What ``sampling.pick`` does in twenty small operations, as one Triton kernel: a program for each row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference.engines.local.sampling import Choices


@triton.jit
def _shifted(number, BITS: tl.constexpr):
    """A logical shift to the right."""
    return (number >> BITS) & ((1 << (64 - BITS)) - 1)


@triton.jit
def _uniform(seed, place):
    """As ``sampling.uniform``."""
    mixed = seed + (place + 1) * -0x61C8864680B583EB
    mixed = (mixed ^ _shifted(mixed, 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ _shifted(mixed, 27)) * -0x6B2FB644ECCEEE15
    return _shifted(mixed ^ _shifted(mixed, 31), 40).to(tl.float32) / 16777216.0


@triton.jit
def _pick(candidates, temperature, top_p, top_k, seed, place, out, count, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    scores = tl.load(candidates + row * count + at, mask=at < count, other=float("-inf")).to(tl.float32)
    scores = tl.where(at < tl.load(top_k + row), scores, float("-inf"))
    scores = scores / tl.maximum(tl.load(temperature + row), 1e-4)
    shares = tl.exp(scores - tl.max(scores, 0))
    chances = shares / tl.sum(shares, 0)
    before = tl.cumsum(chances, 0) - chances
    chances = tl.where(before < tl.load(top_p + row), chances, 0.0)
    sums = tl.cumsum(chances, 0)
    drawn = _uniform(tl.load(seed + row), tl.load(place + row)) * tl.max(sums, 0)
    passed = tl.sum(((sums <= drawn) & (at < count)).to(tl.int32), 0)
    tl.store(out + row, tl.minimum(passed, count - 1).to(tl.int64))


def pick(candidates: Tensor, choices: Choices) -> Tensor:
    """As ``sampling.pick``; rounding may differ, so that a draw on the very border of two candidates may as well."""
    rows, count = candidates.shape
    at = torch.empty(rows, dtype=torch.int64, device=candidates.device)
    how = (choices.temperature, choices.top_p, choices.top_k, choices.seed, choices.place)
    _pick[rows,](candidates.contiguous(), *how, at, count, BLOCK=triton.next_power_of_2(count), num_warps=2)
    return at
