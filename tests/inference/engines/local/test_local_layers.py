"""Whole decoder layers in C: which ones, that they compute the same, and that they can be taken out again."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from inference.engines.local import layers_native
from inference.engines.local.adapter import Adapter
from inference.engines.local.layers_native import FusedHead, FusedLayer
from tests.inference.engines.local import tiny

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


class Mixing:
    """A step in which every token hears of all others; some are asked for in the end."""

    def __init__(self, kept: list[int] | None = None) -> None:
        self._kept = None if kept is None else torch.tensor(kept, dtype=torch.int64)

    def kept(self, layer: int) -> Tensor | None:
        return self._kept

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **told: Any) -> Tensor:
        self.told = told
        group = query.shape[0] // key.shape[0]
        key, value = (part.repeat_interleave(group, 0) for part in (key, value))
        return ((query @ key.transpose(1, 2) * told["scaling"]).softmax(-1) @ value).transpose(0, 1)


def layers_of(name: str, tokenizer: Any, **changes: Any) -> list[Any]:
    model = tiny.make(name, tokenizer, **changes).model
    for parameter in model.parameters():  # biases and norms begin as zeros and ones
        torch.nn.init.normal_(parameter, std=0.2)
    Adapter(model)
    return list(model.model.layers)


def inputs(layer: Any, rows: int, head_size: int = 16) -> tuple[Tensor, dict[str, Any]]:
    angles = torch.randn(1, rows, head_size // 2).repeat(1, 1, 2)
    return torch.randn(1, rows, layer.input_layernorm.weight.shape[0]), {
        "attention_mask": None,
        "position_embeddings": (angles.cos(), angles.sin()),
        "step": Mixing(),
    }


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 20, 64])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("qwen3", {}),
        ("llama", {"num_key_value_heads": 1}),
        ("mistral", {"intermediate_size": 40}),  # panels are filled up
        ("qwen2", {}),  # has biases
        ("qwen3", {"head_dim": 24}),
    ],
)
def test_a_layer_in_c_gives_what_the_layer_itself_gives(name, changes, rows, tokenizer):
    torch.manual_seed(rows)
    for layer in layers_of(name, tokenizer, **changes):
        assert isinstance(layer.forward, FusedLayer)
        given, options = inputs(layer, rows, changes.get("head_dim", 16))
        wanted = type(layer).forward(layer, given, **options)
        told = options["step"].told

        torch.testing.assert_close(layer(given, **options), wanted, rtol=1e-4, atol=1e-4)
        assert options["step"].told == told


@torch.inference_mode()
@pytest.mark.parametrize("kept", [[], [0], [69], [3, 64, 65]])
def test_a_layer_of_which_some_rows_are_wanted_computes_no_others(kept, tokenizer):
    layer = layers_of("qwen3", tokenizer)[0]
    given, options = inputs(layer, 70)
    wanted = layer(given, **options)[0]

    found = layer(given, **{**options, "step": Mixing(kept)})[0]

    others = [row for row in range(70) if row not in kept]
    torch.testing.assert_close(found[kept], wanted[kept], rtol=1e-5, atol=1e-5)
    assert not found[others].any()


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 8, 11])
def test_the_last_product_gives_what_the_model_gives(rows, tokenizer):
    model = tiny.make("glm4", tokenizer).model  # whatever the layers before it are
    Adapter(model)
    head = model.get_output_embeddings()
    assert isinstance(head.forward, FusedHead)
    given = torch.randn(1, rows, 64)

    out = head(given)

    assert out.shape == (1, rows, tiny.VOCABULARY)  # no multiple of a panel
    torch.testing.assert_close(out, given @ head.weight.T, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_number_that_is_none_stays_none_and_in_its_row(tokenizer):
    class Copying(Mixing):
        def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **told: Any) -> Tensor:
            return query.transpose(0, 1)

    layer = layers_of("qwen3", tokenizer)[0]
    given, options = inputs(layer, 3)
    given[0, 1, 5] = torch.nan

    out = layer(given, **{**options, "step": Copying()})

    assert out[0].isnan().all(-1).tolist() == [False, True, False]
    assert not out[0, ::2].isnan().any()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma2", {}),
        ("gemma3", {}),
        ("glm4", {}),
        ("phi3", {}),
        ("qwen3-moe", {}),
        ("qwen3", {"hidden_size": 72}),  # no whole panels
        ("llama", {"mlp_bias": True}),
        ("llama", {"attention_bias": True}),  # on what attention gives, too
        ("llama", {"hidden_size": 512, "intermediate_size": 1024}),  # large: work for several threads
    ],
)
def test_other_layers_stay_as_they_are(name, changes, tokenizer):
    for layer in layers_of(name, tokenizer, **changes):
        assert "forward" not in vars(layer)


def test_a_layer_that_computes_something_else_stays_as_it_is(tokenizer):
    loaded = tiny.make("llama", tokenizer)
    odd, usual = loaded.model.model.layers
    odd.mlp.act_fn = torch.nn.ReLU()

    Adapter(loaded.model)

    assert "forward" not in vars(odd)
    assert isinstance(usual.forward, FusedLayer)


@torch.inference_mode()
def test_large_steps_are_left_to_the_threads_of_torch(tokenizer, monkeypatch):
    layer = layers_of("llama", tokenizer)[0]
    computed: list[int] = []
    monkeypatch.setattr(
        FusedLayer, "_computed", lambda self, given, *_: computed.append(len(given)) or torch.zeros_like(given)
    )
    for threads, rows in ((1, 100), (2, 64), (2, 65)):
        monkeypatch.setattr(layers_native.torch, "get_num_threads", lambda threads=threads: threads)
        given, options = inputs(layer, rows)
        layer(given, **options)

    assert computed == [100, 64]


def test_a_model_is_given_back_as_it_was(tokenizer):
    loaded = tiny.make("qwen3", tokenizer)
    plain = tiny.Plain.copy_of(loaded)
    adapter = Adapter(loaded.model)
    assert all(isinstance(layer.forward, FusedLayer) for layer in loaded.model.model.layers)

    adapter.restore()

    assert not any("forward" in vars(module) for module in loaded.model.modules())
    assert tiny.Plain.copy_of(loaded).answer([7, 8, 9], 5) == plain.answer([7, 8, 9], 5)
