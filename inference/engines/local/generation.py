"""transformers' own ``generate``: every model it knows, one sequence at a time. Our yardstick, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from inference.engines.local.model import LocalModel
from inference.engines.local.sequence import Sequence


class _EachToken(StoppingCriteria):
    """Hands on each new token, and stops when told to. ``generate`` asks after every step."""

    def __init__(self, wants_more: Callable[[int], bool]) -> None:
        self._wants_more = wants_more

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        is_done = not self._wants_more(int(input_ids[0, -1]))
        return torch.full((input_ids.shape[0],), is_done, dtype=torch.bool, device=input_ids.device)


def generate(loaded: LocalModel, sequence: Sequence, wants_more: Callable[[int], bool]) -> None:
    """Call ``wants_more`` with each token, the end token included, until it says no or the answer is complete."""
    ids = torch.tensor([sequence.tokens], device=loaded.device)
    pictures = sequence.picture.inputs if sequence.picture else {}
    with _random_state(sequence.sampling.seed, loaded.device):
        loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=_config(sequence),
            stopping_criteria=StoppingCriteriaList([_EachToken(wants_more)]),
            **pictures,
        )


def _config(sequence: Sequence) -> GenerationConfig:
    sampling = sequence.sampling
    chosen: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
    if sampling.temperature:
        chosen = {"do_sample": True, "temperature": sampling.temperature}
        chosen |= {"top_p": sampling.top_p, "top_k": sampling.top_k}
    end_ids = sorted(sequence.end_ids)
    return GenerationConfig(  # type: ignore[no-untyped-call]  # transformers has no types
        max_new_tokens=sequence.max_new_tokens,
        eos_token_id=end_ids or None,
        pad_token_id=end_ids[0] if end_ids else 0,  # one row: never used, but asked for
        **chosen,
    )


@contextlib.contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
