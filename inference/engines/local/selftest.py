"""Before a model serves: our way to run it must give the tokens of transformers' own ``generate``."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from inference.engines.local.core import Core
from inference.engines.local.model import LocalModel
from inference.engines.local.sequence import Sequence

NEW_TOKENS = 8
_PROMPT_TOKENS = (5, 40)  # less than a page, and more than two
_TIE = {torch.float32: 1e-3, torch.float64: 1e-6}  # in logits; what is closer may fall either way
_COARSE_TIE = 0.25  # for 16-bit numbers


@dataclass(frozen=True, slots=True)
class Reference:
    """What ``generate`` makes of a prompt, and by how much each token won against each other: [tokens, vocabulary]."""

    prompt: list[int]
    tokens: list[int]
    logits: torch.Tensor


def references(loaded: LocalModel) -> list[Reference]:
    """Call it while the model's attention is its own."""
    return [_reference(loaded, prompt) for prompt in _prompts(loaded)]


def mismatch(core: Core, wanted: Rows[Reference], dtype: torch.dtype) -> str:
    """Run the prompts together; return what differs, or nothing."""
    found = [Sequence(f"self-test-{at}", list(ref.prompt), NEW_TOKENS) for at, ref in enumerate(wanted)]
    for sequence in found:
        core.add(sequence)
    while core.has_work:
        if errors := [event.error for event in core.step() if event.error]:
            return errors[0]
    for sequence, reference in zip(found, wanted, strict=True):
        tokens = sequence.tokens[sequence.prompt_tokens :]
        if not _agrees(tokens, reference, _TIE.get(dtype, _COARSE_TIE)):
            return f"the self-test gave {tokens} instead of {reference.tokens}"
    return ""


def _agrees(tokens: list[int], reference: Reference, tie: float) -> bool:
    """Up to the first token where two were as good as equal: what follows another choice is another text."""
    for at, (ours, theirs) in enumerate(zip(tokens, reference.tokens, strict=True)):
        if ours != theirs:
            logits = reference.logits[at]
            return bool(logits[theirs] - logits[ours] < tie)
    return True


def _prompts(loaded: LocalModel) -> list[list[int]]:
    vocabulary = int(loaded.model.get_input_embeddings().num_embeddings)
    special = set(loaded.tokenizer.all_special_ids) | loaded.end_ids | set(loaded.tokenizer.added_tokens_decoder)
    ordinary = [id for id in range(min(vocabulary, len(loaded.tokenizer))) if id not in special]
    return [[ordinary[(7 + 37 * at * at) % len(ordinary)] for at in range(count)] for count in _PROMPT_TOKENS]


@torch.inference_mode()
def _reference(loaded: LocalModel, prompt: list[int]) -> Reference:
    """Greedy, as ``generate`` does it; but no end token ends it, so that every model gives as many tokens."""
    ids, cache = torch.tensor([prompt], device=loaded.device), None
    tokens: list[int] = []
    logits: list[torch.Tensor] = []
    for _ in range(NEW_TOKENS):
        out = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        logits.append(out.logits[0, -1].float())
        ids = logits[-1].argmax()[None, None]
        tokens.append(int(ids))
    return Reference(prompt, tokens, torch.stack(logits))
