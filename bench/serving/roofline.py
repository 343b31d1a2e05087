"""How fast a step could be: what this device copies and multiplies, measured, and what a step must."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.figures import percentile
from bench.serving.contestants import Ours
from bench.serving.shapes import kv_bytes_per_token, weight_bytes
from inference.engines.local.sequence import Sequence

_ROUNDS = 7
_WARM_STEPS, _TIMED_STEPS = 8, 48


@dataclass(frozen=True, slots=True)
class Device:
    """Measured. Bytes are those read and written by a copy."""

    bytes_per_s: float
    flops: float


@dataclass(frozen=True, slots=True)
class Decode:
    """Steps in which ``batch`` sequences of about ``context`` tokens each get one more."""

    shape: str
    batch: int
    context: int
    step_ms: float  # p50
    roofline_ms: float
    host_ms: float  # p50; while the device computes, where it looks ahead

    @property
    def share(self) -> float:
        return self.roofline_ms / self.step_ms

    @property
    def tokens_per_s(self) -> float:
        return self.batch / self.step_ms * 1000


def measured(device: str) -> Device:
    """A copy that no cache holds, and a large product of matrices, in the type that models have there."""
    is_gpu = device != "cpu"
    source = torch.empty((1 << 31) if is_gpu else (1 << 27), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    copy_s = _best_s(lambda: target.copy_(source), is_gpu=is_gpu)
    size, dtype = (8192, torch.bfloat16) if is_gpu else (1024, torch.float32)
    left = torch.randn(size, size, device=device).to(dtype)
    product_s = _best_s(lambda: left @ left, is_gpu=is_gpu)
    return Device(2 * source.numel() / copy_s, 2 * size**3 / product_s)


def decode(ours: Ours, shape: str, device: Device, batch: int, context: int) -> Decode:
    """Drives the core to where all have their prompts in the cache, then times its steps."""
    core = ours.fresh()
    vocabulary = ours.loaded.model.config.vocab_size
    new = _WARM_STEPS + _TIMED_STEPS + 8
    rng = torch.Generator().manual_seed(batch)
    sequences = [
        Sequence(str(at), torch.randint(10, vocabulary, (context - new,), generator=rng).tolist(), 40 * new)
        for at in range(batch)
    ]
    for sequence in sequences:
        core.add(sequence)
    while any(len(sequence.tokens) == sequence.prompt_tokens for sequence in sequences):
        core.step()
    times_ms, host_ms = [], []
    for step in range(_WARM_STEPS + _TIMED_STEPS):
        began = time.perf_counter()
        core.step()
        if step >= _WARM_STEPS:
            times_ms.append((time.perf_counter() - began) * 1000)
            host_ms.append(core.host_s * 1000)
    for sequence in sequences:
        sequence.is_over = True
    while core.has_work:
        core.step()
    weights, kv = weight_bytes(ours.loaded), kv_bytes_per_token(ours.loaded)
    read_s = (weights + batch * context * kv) / device.bytes_per_s
    multiply_s = 2 * batch * weights / ours.loaded.model.dtype.itemsize / device.flops
    return Decode(
        shape, batch, context, percentile(times_ms, 0.5), max(read_s, multiply_s) * 1000, percentile(host_ms, 0.5)
    )


def _best_s(work: Callable[[], object], *, is_gpu: bool) -> float:
    found = []
    for _ in range(_ROUNDS):
        if is_gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if is_gpu:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return min(found)
