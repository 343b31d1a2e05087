"""Triton's kernels as a Backend. Import it only where Triton is installed."""

from __future__ import annotations

import torch

from inference.engines.local import kernels, norms_gpu, sampling_gpu
from inference.engines.local.attention_gpu import GpuStep
from inference.engines.local.backend import Backend
from inference.engines.local.limits import PAGE_TOKENS

GPU = Backend(GpuStep, sampling_gpu.pick, norms_gpu.fuse)


def tried_out(device: torch.device) -> Backend:
    """Raises whatever comes of compiling and launching a kernel where that does not work."""
    pages = torch.zeros(1, PAGE_TOKENS, 1, 16, device=device)
    ones = torch.ones(1, dtype=torch.int64, device=device)
    kernels.attend(pages[0, :1], pages, pages, ones.int()[:, None] - 1, ones, scaling=1.0)
    return GPU
