"""One answer by transformers' own ``generate``: every model it knows, one request at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from inference.base import SamplingParams
from inference.engines.local.model import LocalModel
from inference.engines.local.prompt import Prompt


class _EachToken(StoppingCriteria):
    """Hands on each new token, and stops when told to. ``generate`` asks after every step."""

    def __init__(self, wants_more: Callable[[int], bool]) -> None:
        self._wants_more = wants_more

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        is_done = not self._wants_more(int(input_ids[0, -1]))
        return torch.full((input_ids.shape[0],), is_done, dtype=torch.bool, device=input_ids.device)


def generate(loaded: LocalModel, prompt: Prompt, sampling: SamplingParams, wants_more: Callable[[int], bool]) -> None:
    """Call ``wants_more`` with each token, the end token included, until it says no or the answer is complete."""
    ids = torch.tensor([prompt.ids], device=loaded.device)
    with _random_state(sampling.seed, loaded.device):
        loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=_config(loaded, prompt.max_new_tokens, sampling),
            stopping_criteria=StoppingCriteriaList([_EachToken(wants_more)]),
        )


def _config(loaded: LocalModel, max_new_tokens: int, sampling: SamplingParams) -> GenerationConfig:
    """Greedy at temperature 0 or None; what stays None is the model's own default."""
    chosen: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
    if sampling.temperature:
        chosen = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
    end_ids = sorted(loaded.end_ids)
    return GenerationConfig(  # type: ignore[no-untyped-call]  # transformers has no types
        max_new_tokens=max_new_tokens,
        eos_token_id=end_ids or None,
        pad_token_id=end_ids[0] if end_ids else 0,  # one row: never used, but asked for
        **chosen,
    )


@contextlib.contextmanager
def _random_state(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed % 2**63)
        yield
