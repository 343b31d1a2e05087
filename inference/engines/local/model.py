"""Loads a model from a folder on this machine, and from nowhere else. Refuses whatever would run code."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging as transformers_logging

from inference.errors import InferenceError

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it draws over the log

_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
_one_at_a_time = threading.Lock()  # while it loads, transformers changes classes and defaults of the whole process
_LOCAL_ONLY = {"local_files_only": True, "trust_remote_code": False}


class ModelFolderError(InferenceError):
    """The folder holds no model that we can or want to load. One sentence: what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model and its tokenizer, ready to answer. ``context_tokens`` is what prompt and answer share.

    ``image_processor`` is there for models that see pictures.
    """

    model: Any  # a PreTrainedModel, whose annotations do not know what it inherits
    tokenizer: PreTrainedTokenizerBase
    end_ids: frozenset[int]
    context_tokens: int
    image_processor: Any = None

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)


def load_model(folder: str | Path, *, device: str | None = None) -> LocalModel:
    """Load in float32 on a CPU, in bfloat16 on a GPU (the default where there is one). Raises ModelFolderError."""
    path = Path(folder)
    check_folder(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with _one_at_a_time:
            tokenizer, model, image_processor = _load(path, device)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFolderError(f"{path} cannot be loaded; download the model again: {reason}") from error
    _check_tokenizer(path, tokenizer, model)
    return ready(model.to(device), tokenizer, image_processor)


def _load(path: Path, device: str) -> tuple[PreTrainedTokenizerBase, Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(path, **_LOCAL_ONLY)  # a folder, nothing is fetched  # nosec B615
    model = _load_weights(path, torch.float32 if device == "cpu" else torch.bfloat16)
    return tokenizer, model, _load_eyes(path) if _sees(path) else None


def ready(model: Any, tokenizer: PreTrainedTokenizerBase, image_processor: Any = None) -> LocalModel:
    """Wrap a model that is in memory."""
    context_tokens = int(model.config.get_text_config().max_position_embeddings)
    return LocalModel(model.eval(), tokenizer, _end_ids(model, tokenizer), context_tokens, image_processor)


def check_folder(path: Path) -> None:
    """Raises ModelFolderError for a folder that holds no model, or one that could run code."""
    if not (path / "config.json").is_file():
        raise ModelFolderError(f"{path} has no config.json; give the folder that the model was downloaded to")
    names = sorted(file.name for file in path.iterdir())
    if pickled := [name for name in names if Path(name).suffix in _PICKLED]:
        raise ModelFolderError(f"{path} holds {pickled[0]}, which can run code; remove it and use safetensors files")
    if not any(name.endswith(".safetensors") for name in names):
        raise ModelFolderError(f"{path} has no *.safetensors file; download the model in the safetensors format")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in _settings(path / name):
            raise ModelFolderError(f"{path / name} asks for code of its own (auto_map); use a model without it")


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelFolderError(f"{path} is not a JSON object; download the model again")
    return found


def _sees(path: Path) -> bool:
    return "vision_config" in _settings(path / "config.json") and (path / "preprocessor_config.json").is_file()


def _load_eyes(path: Path) -> Any:
    """transformers 5.17 chooses by itself only where torchvision is installed, which we do not need."""
    chosen: Any = AutoImageProcessor
    if _settings(path / "preprocessor_config.json").get("image_processor_type", "").startswith("Qwen2VL"):
        chosen = Qwen2VLImageProcessorPil
    return chosen.from_pretrained(path, local_files_only=True)


def _load_weights(path: Path, dtype: torch.dtype) -> Any:
    loader: Any = AutoModelForImageTextToText if _sees(path) else AutoModelForCausalLM
    model, report = loader.from_pretrained(
        path, dtype=dtype, use_safetensors=True, output_loading_info=True, **_LOCAL_ONLY
    )
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise ValueError(f"{len(missing)} weights are missing, the first is {missing[0]}")
    return model


def _check_tokenizer(path: Path, tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
    if not tokenizer.is_fast:
        raise ModelFolderError(f"{path} has no tokenizer.json; download it with the model")
    if not tokenizer.chat_template:
        raise ModelFolderError(f"{path} has no chat template; use the instruct or chat version of the model")
    rows = model.get_input_embeddings().num_embeddings
    if max(tokenizer.get_vocab().values()) >= rows:
        raise ModelFolderError(f"{path} has more tokens than its model knows ({rows}); take both from one source")


def _end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What the model, the tokenizer and the chat template each put at the end of an answer."""
    config = getattr(model, "generation_config", None)
    told = getattr(config, "eos_token_id", None)
    ids = set(told if isinstance(told, list) else [told]) | {tokenizer.eos_token_id, _template_end(tokenizer)}
    return frozenset(token for token in ids if token is not None)


def _template_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the special token that the chat template writes right after an assistant's text."""
    text = "clawdbot"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]
    rendered = str(tokenizer.apply_chat_template(turns, tokenize=False))
    after = tokenizer.encode(rendered.rpartition(text)[2].lstrip(), add_special_tokens=False)[:1]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return after[0] if after and after[0] in special else None
