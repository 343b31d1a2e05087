"""A tiny model with random weights, made from a seed, and the engines on their benches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from inference.base import Engine
from inference.engines.echo import EchoEngine
from inference.engines.keys import ApiKey, KeyRing
from inference.engines.local.engine import LocalEngine
from inference.engines.local.model import LocalModel, load_model
from inference.engines.openai import OpenAIEngine
from tests.servers.model_service import ModelService, Script

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password? Open the settings and choose security.",
    "你好，请问怎么重置密码？打开设置，选择安全。",
    "今天天气很好，我们去公园散步吧。",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    backend.add_tokens(["<think>", "</think>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-qwen3")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(20261122)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(model_folder: Path) -> LocalModel:
    return load_model(model_folder, device="cpu")


@pytest.fixture
def service() -> Iterator[ModelService]:
    with ModelService() as running:
        yield running


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def make_engine(service: ModelService, http: httpx.Client) -> Callable[..., OpenAIEngine]:
    """Makes a remote engine on the service."""

    def make(**options: Any) -> OpenAIEngine:
        return OpenAIEngine(service.base_url, "fake", service.api_key, http, **options)

    return make


@pytest.fixture
def engine(make_engine: Callable[..., OpenAIEngine]) -> OpenAIEngine:
    return make_engine()


@pytest.fixture
def with_keys(service: ModelService, http: httpx.Client) -> Callable[..., OpenAIEngine]:
    """Makes a remote engine with these keys, of which the service takes all that begin with ``good``."""

    def make(*secrets: str, refused: list[Any] | None = None) -> OpenAIEngine:
        service.further_keys = {secret for secret in secrets if secret.startswith("good")}
        note = (lambda key, why, rest_s: refused.append((key.id, why, rest_s))) if refused is not None else None
        ring = KeyRing([ApiKey(secret, id=f"id-{secret}") for secret in secrets], *filter(None, [note]))
        return OpenAIEngine(service.base_url, "m", ring, http)

    return make


@dataclass
class Bench:
    """An engine that takes some milliseconds a token, and the service behind it if there is one."""

    name: str
    engine: Engine
    service: ModelService | None = None


@pytest.fixture(params=["echo", "openai", "local"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = _bench(request.param, request)
    yield bench
    bench.engine.close()


def _bench(name: str, request: pytest.FixtureRequest) -> Bench:
    if name == "echo":
        return Bench(name, EchoEngine(delay_s=0.002))
    if name == "local":
        return Bench(name, LocalEngine(_endless(request.getfixturevalue("loaded")), torch_threads=1))
    service: ModelService = request.getfixturevalue("service")
    service.script(Script(piece_s=0.002))
    engine = OpenAIEngine(service.base_url, "fake", service.api_key, request.getfixturevalue("http"))
    return Bench(name, engine, service)


def _endless(loaded: LocalModel) -> LocalModel:
    """A random model may stumble on its end token at any time; without one it writes for as long as it may."""
    return replace(loaded, end_ids=frozenset())
