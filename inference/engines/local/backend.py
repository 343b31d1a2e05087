"""What computes attention and draws tokens on this device: Triton's kernels, or what works everywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import SubprocessError
from typing import Any

import torch

from inference.engines.local import layers_native, norms_native
from inference.engines.local.attention import Step
from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.attention_native import NativeStep
from inference.engines.local.batch import Batch
from inference.engines.local.kv import KVCache
from inference.engines.local.native import SMALL, native_for
from inference.engines.local.sampling import Pick, pick

logger = logging.getLogger(__name__)

StepMaker = Callable[[KVCache, Batch], Step]


@dataclass(frozen=True, slots=True)
class Backend:
    """``fuse`` replaces parts of a model by faster ones, and returns how to undo it. ``mirrors``: it may hold the keys
    and values of running sequences a second time."""

    make_step: StepMaker
    pick: Pick
    fuse: Callable[[Any], Callable[[], None]]
    mirrors: bool = False


def _as_it_is(model: Any) -> Callable[[], None]:
    return lambda: None


def _natively(model: Any) -> Callable[[], None]:
    """Whole layers where they are small; the norms of all others."""
    undos = [layers_native.fuse(model), norms_native.fuse(model)]

    def undo() -> None:
        for each in undos:
            each()

    return undo


CPU = Backend(CpuStep, pick, _as_it_is, mirrors=True)  # torch alone
NATIVE = Backend(NativeStep, pick, _natively)


def backend_for(device: torch.device, dtype: torch.dtype) -> Backend:
    """Falls back with a warning that says why."""
    if device.type != "cuda":
        return NATIVE if dtype == torch.float32 and native_for(SMALL) else CPU
    try:
        from inference.engines.local import backend_gpu  # Triton need not be installed where there is no GPU

        return backend_gpu.tried_out(device)
    except (ImportError, OSError, RuntimeError, SubprocessError):  # no Triton, no C compiler for it, too old a GPU
        logger.warning("the GPU kernels cannot be used; attention is slower without them", exc_info=True)
        return CPU
