"""The seam between transformers' model code and our cache: the attention implementation named "clawd".

A step's tokens come in one ragged row, [1, heads, tokens, size]. The step itself travels with the call as the keyword
``step``; which backend computes it depends on the device.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "clawd"

_HARMLESS = {"position_ids", "cache_position", "use_cache", "is_causal", "return_dict"}


class UnknownAttention(Exception):
    """The model computes attention in a way that we do not know."""


class Step(Protocol):
    """What a backend makes of a plan before the model runs. One for each step."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Store the new keys and values, then [heads, tokens, size] -> [tokens, heads, size]."""


def clawd_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    step: Step | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers calls it in each attention layer: [1, heads, tokens, size] -> [1, tokens, heads, size]."""
    if unknown := [name for name, given in others.items() if name not in _HARMLESS and not _is_off(given)]:
        raise UnknownAttention(f"its attention has {', '.join(sorted(unknown))}")
    if step is None or query.shape[0] != 1 or dropout:
        raise UnknownAttention("its attention is not called as that of a causal language model")
    out = step.attend(
        int(module.layer_idx),  # type: ignore[arg-type]  # a number, which torch's annotations do not know
        query[0],
        key[0],
        value[0],
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        sliding_window=sliding_window,
        softcap=softcap,
    )
    return out[None], None


def _is_off(option: Any) -> bool:
    return option is None or option is False


# No mask goes with it: which tokens see which, a Step knows by itself. transformers then builds none, and does not ask
# the device whether the positions are those of one sequence, which would wait for it.
AttentionInterface.register(NAME, clawd_attention)
