"""Tiny models of real architectures with random weights, and what plain ``generate`` says with them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Glm4Config,
    Glm4ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from inference.engines.local.model import LocalModel, ready

VOCABULARY = 402
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.15,  # far from ties
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
WINDOW = {"sliding_window": 24}
ARCHITECTURES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, WINDOW),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {**WINDOW, "query_pre_attn_scalar": 16}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3-moe": (
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    ),
    "phi3": (Phi3Config, Phi3ForCausalLM, {}),
    "glm4": (Glm4Config, Glm4ForCausalLM, {}),
}


def make(name: str, tokenizer: PreTrainedTokenizerBase, **changes: Any) -> LocalModel:
    """The same weights each time."""
    config_class, model_class, more = ARCHITECTURES[name]
    torch.manual_seed(20261130)
    config = config_class(**{**SHAPE, **more, **changes})
    config._attn_implementation = "eager" if name == "gemma2" else "sdpa"  # only eager knows a softcap
    return ready(model_class(config).float(), tokenizer)


@dataclass
class Plain:
    """Greedy answers of plain ``generate``, remembered, from a copy that nobody switches."""

    loaded: LocalModel
    _found: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    @classmethod
    def copy_of(cls, loaded: LocalModel) -> Plain:
        return cls(copy.deepcopy(loaded))

    def answer(self, prompt: list[int], max_new_tokens: int) -> list[int]:
        """A shorter answer is the beginning of a longer one."""
        known = self._found.get(tuple(prompt), [])
        if len(known) < max_new_tokens and not (known and known[-1] in self.loaded.end_ids):
            ids = torch.tensor([prompt], device=self.loaded.device)
            out = self.loaded.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(self.loaded.end_ids),
                pad_token_id=0,
            )
            known = self._found[tuple(prompt)] = out[0, len(prompt) :].tolist()
        return known[:max_new_tokens]
