"""Before a model serves: our way to run it must give the tokens of transformers' own ``generate``."""

from __future__ import annotations

import io
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
from PIL import Image

from inference.engines.local.core import Core
from inference.engines.local.model import LocalModel
from inference.engines.local.sequence import Sequence
from inference.engines.local.vision import Picture, Vision, vision_of

NEW_TOKENS = 8
GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "repetition_penalty": 1.0}
_PROMPT_TOKENS = (5, 40)  # less than a page, and more than two
_TIE = {torch.float32: 1e-3, torch.float64: 1e-6}  # in logits; what is closer may fall either way
_COARSE_TIE = 0.25  # for 16-bit numbers


@dataclass(frozen=True, slots=True)
class Reference:
    """What ``generate`` makes of a prompt, and by how much each token won against each other: [tokens, vocabulary]."""

    prompt: list[int]
    tokens: list[int]
    logits: torch.Tensor
    picture: Picture | None = None


def references(loaded: LocalModel) -> list[Reference]:
    """Call it while the model's attention is its own."""
    prompts = _prompts(loaded)
    vision = vision_of(loaded.model, loaded.image_processor)
    seeing = [_reference(loaded, *_shown(vision, prompts[0]))] if vision else []
    return [_reference(loaded, prompt) for prompt in prompts] + seeing


def mismatch(core: Core, wanted: Rows[Reference], dtype: torch.dtype) -> str:
    """Run the prompts together; return what differs, or nothing."""
    found = [
        Sequence(f"self-test-{at}", list(reference.prompt), NEW_TOKENS, picture=reference.picture)
        for at, reference in enumerate(wanted)
    ]
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


def _shown(vision: Vision, prompt: list[int]) -> tuple[list[int], Picture]:
    """The prompt around a picture with every brightness."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(file, "PNG")
    return vision.placed([*prompt, vision.image_id, *prompt], [vision.read(file.getvalue())])


@torch.inference_mode()
def _reference(loaded: LocalModel, prompt: list[int], picture: Picture | None = None) -> Reference:
    """No end token ends it, so that every model gives as many tokens; nothing else that a model's folder asks for."""
    ids = torch.tensor([prompt], device=loaded.device)
    seen = {name: tensor.to(loaded.device) for name, tensor in picture.inputs.items()} if picture else {}
    out = loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
        **GREEDY,
        **seen,
    )
    return Reference(prompt, out.sequences[0, len(prompt) :].tolist(), torch.cat(out.logits).float(), picture)
