"""A tiny Qwen3-VL with random weights, its tokenizer, and pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from PIL import Image
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from tests.inference.engines.conftest import make_tokenizer

MARKS = ["<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCHES = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 16},
}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.15,
    "eos_token_id": 0,
}


def seeing_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_folder(folder: Path, name: str = "qwen3-vl") -> Path:
    """A folder as it is downloaded, with random weights."""
    tokenizer = seeing_tokenizer()
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PATCHES))
    torch.manual_seed(20261130)
    _model(name, tokenizer).save_pretrained(folder)
    return folder


def _model(name: str, tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    start, image, video, end = tokenizer.convert_tokens_to_ids(MARKS)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    common = {
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
    }
    text = {**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope}
    eyes = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16}
    eyes |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "initializer_range": 0.15}
    if name == "qwen2.5-vl":
        eyes |= {"out_hidden_size": 64, "fullatt_block_indexes": [1], "window_size": 64}
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=eyes, **common))
    eyes |= {"out_hidden_size": 64, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    text["rope_parameters"] = {**rope, "mrope_interleaved": True}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=eyes, **common))


def picture(colour: str = "red", size: tuple[int, int] = (100, 60), format: str = "PNG") -> bytes:
    """A cross on a ground of one colour."""
    image = Image.new("RGB", size, colour)
    image.paste("white", (size[0] // 3, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()
