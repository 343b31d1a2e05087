"""RMS normalisation in one Triton kernel: as transformers writes it, it is seven, many times in each layer.

At small batches a step is a long row of small kernels, and they take longer than reading the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference.engines.local import norms


@triton.jit
def _rms_norm(given, weight, out, epsilon, SIZE: tl.constexpr, BLOCK: tl.constexpr, ONE_MORE: tl.constexpr):
    """Rounds where transformers does: Gemma's (``ONE_MORE``) at the end, all others before the weight as well."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    is_in = at < SIZE
    numbers = tl.load(given + row * SIZE + at, mask=is_in, other=0.0).to(tl.float32)
    scaled = numbers * tl.rsqrt(tl.sum(numbers * numbers, 0) / SIZE + epsilon)
    by = tl.load(weight + at, mask=is_in, other=0.0).to(tl.float32)
    if ONE_MORE:
        by += 1.0
    else:
        scaled = scaled.to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * SIZE + at, (scaled * by).to(out.dtype.element_ty), mask=is_in)


def rms_norm(given: Tensor, weight: Tensor, epsilon: float, *, one_more: bool) -> Tensor:
    """[..., size] -> the same shape, dense."""
    given = given.contiguous()
    size = given.shape[-1]
    out = torch.empty_like(given)
    block = triton.next_power_of_2(size)
    warps = min(16, max(1, block // 256))
    _rms_norm[given.numel() // size,](
        given, weight, out, epsilon, SIZE=size, BLOCK=block, ONE_MORE=one_more, num_warps=warps
    )
    return out


def fuse(model: Any) -> Callable[[], None]:
    return norms.fuse(model, rms_norm)
