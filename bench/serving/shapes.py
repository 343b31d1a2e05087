"""Models to measure with: real architectures and sizes, random weights from a seed. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import inference.demo
from inference.engines.local.model import LocalModel, ready

DEMO = Path(inference.demo.__file__).parent / "model"
SEED = 20261130
_END: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}


@dataclass(frozen=True, slots=True)
class Shape:
    """``like`` is the architecture; the rest goes to its configuration."""

    name: str
    like: str
    config: dict[str, Any]


def _tiny(**more: Any) -> dict[str, Any]:
    """The size of the bundled demo model."""
    return {
        "vocab_size": 2000,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 48,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        **more,
    }


_QWEN3 = {"vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 40960}
_QWEN3_8B: dict[str, Any] = {
    **_QWEN3,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "tie_word_embeddings": False,
}
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny Qwen3", "qwen3", _tiny()),
        Shape("tiny Llama", "llama", _tiny()),
        Shape("tiny Mistral", "mistral", _tiny(sliding_window=512)),
        Shape(
            "Qwen3-0.6B",
            "qwen3",
            {
                **_QWEN3,
                "hidden_size": 1024,
                "intermediate_size": 3072,
                "num_hidden_layers": 28,
                "num_attention_heads": 16,
                "tie_word_embeddings": True,
            },
        ),
        Shape("Qwen3-8B", "qwen3", _QWEN3_8B),
        # Where a layer is as wide as in real models, and a CPU computes it in a second.
        Shape("Qwen3-8B, two layers", "qwen3", {**_QWEN3_8B, "num_hidden_layers": 2, "vocab_size": 2000}),
    )
}


def make(shape: Shape, device: str) -> LocalModel:
    """The same weights each time; float32 on a CPU, bfloat16 on a GPU. No token ends an answer."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    config = AutoConfig.for_model(shape.like, **shape.config, **_END)
    torch.manual_seed(SEED)
    maker: Any = AutoModelForCausalLM
    with torch.device(device):
        model = maker.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return ready(model.requires_grad_(requires_grad=False), AutoTokenizer.from_pretrained(DEMO))


def weight_bytes(loaded: LocalModel) -> int:
    """What each step reads of the weights: all but the table of embeddings, unless it is the output's as well."""
    model = loaded.model
    total: int = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    embeddings = model.get_input_embeddings().weight
    is_tied = model.get_output_embeddings().weight is embeddings
    looked_up: int = 0 if is_tied else embeddings.numel() * embeddings.element_size()
    return total - looked_up


def kv_bytes_per_token(loaded: LocalModel) -> int:
    config = loaded.model.config
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return int(numbers * loaded.model.dtype.itemsize)
