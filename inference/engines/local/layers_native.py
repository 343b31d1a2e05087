"""Decoder layers of Llama's kind by our C functions, all but their attention, and the last product: for small models.

As transformers writes such a layer it is some thirty operations, and where the weights are few, calling them costs more
than what they compute. Large ones stay torch's, which shares them among threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import pad

from inference.engines.local.attention import Step
from inference.engines.local.native import SMALL, Layer, Native, native_for

_KINDS = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
_MOST_NUMBERS = 1_000_000  # in the weights of one
_MANY_ROWS = 64  # of a step; more are worth several threads
_PANEL = 32  # of packed weights, as in native_layers.c
_TOLERANCE = 1e-4  # of the largest number: sums are taken in another order


def fuse(model: Any) -> Callable[[], None]:
    """Replace what is small, of a known kind, and gives the same numbers then. Returns how to undo it."""
    native = native_for(SMALL)
    if native is None or model.dtype != torch.float32:
        return lambda: None
    known: list[tuple[Any, Any]] = [(module, FusedLayer) for module in model.modules() if _is_known(module)]
    if _is_known_head(head := model.get_output_embeddings()):
        known.append((head, FusedHead))
    replaced = [module for module, kind in known if _replace(module, kind(module, native))]

    def undo() -> None:
        for module in replaced:
            vars(module).pop("forward", None)

    return undo


def _is_known(module: Any) -> bool:
    if type(module).__name__ not in _KINDS or sum(weight.numel() for weight in module.parameters()) > _MOST_NUMBERS:
        return False
    attention, mlp = module.self_attn, module.mlp
    plain = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return all(part.bias is None for part in plain) and mlp.down_proj.out_features % _PANEL == 0


def _is_known_head(module: Any) -> bool:
    return type(module) is Linear and module.bias is None and module.weight.numel() <= _MOST_NUMBERS


def _replace(module: Any, fused: Any) -> bool:
    if fused.agrees:
        module.forward = fused
    return bool(fused.agrees)


def _are_for_threads(rows: int) -> bool:
    return rows > _MANY_ROWS and torch.get_num_threads() > 1


class SparingStep(Step, Protocol):
    """As what computes attention where our C functions run (``attention_native``)."""

    def kept(self, layer: int) -> Tensor | None:
        """The tokens that the layer owes anything of, int64; None: all."""


class FusedLayer:
    """Stands in for a layer's ``forward``. Calls without a step, and large ones, go to the layer itself."""

    @torch.inference_mode()
    def __init__(self, module: Any, native: Native) -> None:
        self._original, self._native = module.forward, native
        self._number = int(module.self_attn.layer_idx)
        self._layer, self._weights = _packed(module)
        self._told: dict[str, Any] = {}
        self.agrees = self._tried_out()

    def __call__(self, hidden_states: Tensor, *others: Any, **options: Any) -> Any:
        step: SparingStep | None = options.get("step")
        if step is None or type(hidden_states) is not Tensor or _are_for_threads(hidden_states.shape[1]):
            return self._original(hidden_states, *others, **options)
        cosine, sine = options["position_embeddings"]
        return self._computed(hidden_states[0].contiguous(), cosine[0].contiguous(), sine[0].contiguous(), step)[None]

    def _computed(self, given: Tensor, cosine: Tensor, sine: Tensor, step: SparingStep) -> Tensor:
        layer, rows = self._layer, len(given)
        query = given.new_empty(rows, layer.heads, layer.head_size)
        key, value = (given.new_empty(rows, layer.kv_heads, layer.head_size) for _ in range(2))
        self._native.before_attention(layer, given, cosine, sine, query, key, value)
        mixed = step.attend(
            self._number, query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), **self._told
        )
        kept = step.kept(self._number)
        if kept is None:
            return self._after_attention(given, mixed)
        return torch.zeros_like(given).index_copy_(0, kept, self._after_attention(given[kept], mixed[kept]))

    def _after_attention(self, given: Tensor, mixed: Tensor) -> Tensor:
        out = torch.empty_like(given)
        self._native.after_attention(self._layer, given, mixed.contiguous(), out)
        return out

    def _tried_out(self) -> bool:
        """Whether the layer itself gives the same. It also tells how its attention is called."""
        rng = torch.Generator().manual_seed(self._layer.hidden)
        given = torch.randn(5, self._layer.hidden, generator=rng)
        angles = torch.randn(5, self._layer.head_size // 2, generator=rng).repeat(1, 2)
        turned, trial = (angles.cos(), angles.sin()), _Trial()
        wanted = self._original(
            given[None], attention_mask=None, position_embeddings=tuple(part[None] for part in turned), step=trial
        )
        self._told = trial.told
        found = self._computed(given, *turned, trial)
        return _agree(found, wanted[0])


class FusedHead:
    """Stands in for the ``forward`` of what makes logits."""

    @torch.inference_mode()
    def __init__(self, module: Any, native: Native) -> None:
        self._original, self._native = module.forward, native
        self._weight, self._outputs = _panels(module.weight), module.out_features
        given = torch.randn(1, 5, module.in_features, generator=torch.Generator().manual_seed(module.in_features))
        self.agrees = _agree(self(given), self._original(given))

    def __call__(self, given: Tensor) -> Tensor:
        rows = given.shape[:-1]
        if type(given) is not Tensor or _are_for_threads(rows.numel()):
            original: Tensor = self._original(given)
            return original
        out = self._native.product(given.reshape(-1, given.shape[-1]).contiguous(), self._weight)
        return out[:, : self._outputs].view(*rows, self._outputs)


def _agree(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=_TOLERANCE, atol=_TOLERANCE * float(wanted.abs().max()))


class _Trial:
    """A Step that remembers how it is called, and returns something of all that it is given."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def kept(self, layer: int) -> Tensor | None:
        return None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **told: Any) -> Tensor:
        self.told = told
        group = query.shape[0] // key.shape[0]
        key, value = (part.repeat_interleave(group, 0) for part in (key, value))
        return (query * 0.5 + key * 0.25 + value).transpose(0, 1)


def _packed(module: Any) -> tuple[Layer, list[Tensor]]:
    """The layer as our C functions know it, and the tensors that must live as long."""
    attention, mlp = module.self_attn, module.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weights: dict[str, Tensor] = {
        "norm": module.input_layernorm.weight,
        "second_norm": module.post_attention_layernorm.weight,
        "qkv": _panels(torch.cat([part.weight for part in parts])),
        "out": _panels(attention.o_proj.weight),
        "gate": _panels(mlp.gate_proj.weight),
        "up": _panels(mlp.up_proj.weight),
    }
    inner = weights["gate"].shape[0] * _PANEL
    weights["down"] = _panels(pad(mlp.down_proj.weight, (0, inner - mlp.down_proj.in_features)))
    width = weights["qkv"].shape[0] * _PANEL
    if attention.q_proj.bias is not None:
        bias = torch.cat([part.bias for part in parts])
        weights["qkv_bias"] = pad(bias, (0, width - len(bias)))
    norms = {"query": getattr(attention, "q_norm", None), "key": getattr(attention, "k_norm", None)}
    epsilons = {f"{whose}_epsilon": norm.variance_epsilon for whose, norm in norms.items() if norm is not None}
    weights |= {f"{whose}_norm": norm.weight for whose, norm in norms.items() if norm is not None}
    layer = Layer(
        hidden=mlp.down_proj.out_features,
        inner=inner,
        heads=attention.q_proj.out_features // attention.head_dim,
        kv_heads=attention.k_proj.out_features // attention.head_dim,
        head_size=attention.head_dim,
        qkv_width=width,
        epsilon=module.input_layernorm.variance_epsilon,
        second_epsilon=module.post_attention_layernorm.variance_epsilon,
        **epsilons,
        **{name: weight.data_ptr() for name, weight in weights.items()},
    )
    return layer, list(weights.values())


def _panels(weight: Tensor) -> Tensor:
    """[outputs, inputs] -> [panels, inputs, 32 outputs], filled up with zeros."""
    outputs, inputs = weight.shape
    filled = pad(weight, (0, 0, 0, -outputs % _PANEL))
    return filled.view(-1, _PANEL, inputs).transpose(1, 2).contiguous()
