"""RMS normalisation by our C function, for models in 32-bit numbers on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inference.engines.local import norms
from inference.engines.local.native import SMALL, Native, native_for


def fuse(model: Any) -> Callable[[], None]:
    """Only a model whose numbers are all of that type."""
    native = native_for(SMALL)
    if native is None or model.dtype != torch.float32:
        return lambda: None
    return norms.fuse(model, partial(_rms_norm, native))


def _rms_norm(native: Native, given: Tensor, weight: Tensor, epsilon: float, *, one_more: bool) -> Tensor:
    given = given.contiguous()
    out = torch.empty_like(given)
    native.rms_norm(given, weight, out, epsilon, one_more=one_more)
    return out
