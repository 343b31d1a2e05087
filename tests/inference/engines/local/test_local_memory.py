"""How the system is asked to hold a cache."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from inference.engines.local import memory
from inference.engines.local.kv import KVCache, LayerShape

MADVISE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def flags_of(tensor: torch.Tensor) -> str:
    """What the kernel knows of the memory in the tensor's middle."""
    middle = tensor.data_ptr() + tensor.nbytes // 2
    for area in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        first, last = (int(end, 16) for end in area.split(" ", 1)[0].split("-"))
        if first <= middle < last:
            return area.split("VmFlags:")[1].split("\n")[0]
    raise AssertionError("the tensor is nowhere")


@pytest.mark.skipif(not MADVISE.exists(), reason="a kernel without large pages")
def test_a_cache_asks_for_large_pages_and_begins_with_zeros():
    cache = KVCache([LayerShape(2, 64, 32)], 2000, torch.float32, torch.device("cpu"))

    for tensor in cache.of(0):
        assert " hg" in flags_of(tensor)
        assert not tensor.any()


def test_where_there_are_no_large_pages_it_is_held_as_ever(monkeypatch):
    monkeypatch.setattr(memory, "_LARGE_PAGES", None)

    cache = KVCache([LayerShape(2, 64, 32)], 2000, torch.float32, torch.device("cpu"))

    assert cache.keys[0].shape == (2001, 16, 2, 64)
    assert not any(tensor.any() for tensor in cache.of(0))


def test_less_than_a_page_is_left_alone():
    tensor = torch.empty(3)
    assert memory.in_large_pages(tensor) is tensor
