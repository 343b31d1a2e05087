"""How much memory a cache may take, and how the system holds it."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

_CPU_BYTES = 2 * 1024**3  # more conversations at once than a CPU can serve
_CPU_SHARE = 0.25  # of what is free
_LARGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux only
_GPU_SHARE = 0.85  # of what is free once the weights are loaded; the rest is for a step's own numbers


def cache_bytes(device: torch.device, told: int | None) -> int:
    if told is not None:
        return told
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch holds in reserve counts as taken
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _GPU_SHARE)
    return min(_CPU_BYTES, int(_free_bytes() * _CPU_SHARE))


def _free_bytes() -> int:
    """What programs could still get; files that the system merely remembers count as free."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def in_large_pages(tensor: Tensor) -> Tensor:
    """Ask Linux to hold it in pages of 2 MiB instead of 4 KiB. To be called before anything is written to it.

    What is read in scattered parts is found a third faster then: fewer addresses to look up. A system that has no such
    pages to give holds it as ever.
    """
    if _LARGE_PAGES is not None and tensor.device.type == "cpu":
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        count = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        if count > 0:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(count), _LARGE_PAGES)
    return tensor
