"""A transformers model with its attention switched to ours, once we know that we understand it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from inference.engines.local import attention
from inference.engines.local.attention import Step, UnknownAttention
from inference.engines.local.backend import Backend, backend_for
from inference.engines.local.kv import LayerShape

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_STRETCHED = {"dynamic", "longrope"}  # their angles depend on the longest sequence of a batch


class Adapter:
    """Raises UnknownAttention for a model that only its own code may run; its attention is as before then.

    ``backend``: what computes on the model's device, if not what is best there.
    """

    def __init__(self, model: Any, backend: Backend | None = None) -> None:
        self._model = model
        self._config = model.config.get_text_config()
        self._is_part = self._config is not model.config  # of a model that sees, too
        self._has_axes = hasattr(getattr(model, "model", None), "get_rope_index")  # a position is time, height, width
        _check(model, self._config)
        self.device: torch.device = model.device
        self._before = self._config._attn_implementation
        self._switch(attention.NAME)
        try:
            self.layers = self._tried_out()
        except UnknownAttention:
            self._switch(self._before)
            raise
        self.backend = backend or backend_for(self.device, model.dtype)
        self._undo_fusing = self.backend.fuse(model)

    def forward(self, ids: Tensor, positions: Tensor, keep: Tensor, step: Step, **seen: Any) -> Tensor:
        """int64 [T], [T] or [3, T], [rows] -> logits [rows, vocabulary] of the tokens in ``keep``."""
        if self._has_axes and positions.dim() == 1:
            positions = positions.expand(3, -1)
        out = self._model(
            input_ids=ids[None],
            position_ids=positions[..., None, :],
            use_cache=False,
            logits_to_keep=keep,
            step=step,
            **seen,
        )
        logits: Tensor = out.logits[0]
        return logits

    def restore(self) -> None:
        self._undo_fusing()
        self._switch(self._before)

    def _switch(self, name: str) -> None:
        self._model.set_attn_implementation({"text_config": name} if self._is_part else name)

    def _tried_out(self) -> list[LayerShape]:
        """Run one token through the model to see what each layer gives to its attention."""
        probe = _Probe()
        token, place = (torch.zeros(1, dtype=torch.int64, device=self._model.device) for _ in range(2))
        with torch.inference_mode():
            self.forward(token, place, place, probe)
        if sorted(probe.seen) != list(range(self._config.num_hidden_layers)):
            raise UnknownAttention("not every layer has an attention of the usual kind")
        layers = [probe.seen[at] for at in sorted(probe.seen)]
        for kind, layer in zip(_layer_types(self._config), layers, strict=False):
            if (kind == "sliding_attention") != (layer.sliding_window is not None):
                raise UnknownAttention("its sliding window is not told to its attention")
        return layers


class _Probe:
    """A Step that remembers, and computes nothing."""

    def __init__(self) -> None:
        self.seen: dict[int, LayerShape] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, sliding_window: int | None, **_: Any
    ) -> Tensor:
        self.seen[layer] = LayerShape(key.shape[0], key.shape[2], value.shape[2], sliding_window)
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[2])


def safe_context_tokens(config: Any) -> int:
    """How long a sequence may be. Stretched positions end where the stretching begins."""
    config = config.get_text_config()
    limit = int(config.max_position_embeddings)
    for rope in _ropes(getattr(config, "rope_parameters", None)):
        if rope.get("rope_type") in _STRETCHED:
            limit = min(limit, int(rope.get("original_max_position_embeddings") or limit))
    return limit


def _check(model: Any, config: Any) -> None:
    if not getattr(model, "_supports_attention_backend", False):
        raise UnknownAttention("its attention cannot be replaced")
    if unknown := sorted(set(_layer_types(config)) - _KNOWN_LAYERS):
        raise UnknownAttention(f"it has layers of {', '.join(unknown)}")
    if getattr(config, "use_bidirectional_attention", None):
        raise UnknownAttention("its tokens see those after them")


def _layer_types(config: Any) -> list[str]:
    return list(getattr(config, "layer_types", None) or ())


def _ropes(parameters: object) -> Iterator[Mapping[str, Any]]:
    """One for all layers, or one for each kind of layer."""
    if isinstance(parameters, Mapping):
        yield parameters
        for value in parameters.values():
            yield from _ropes(value)
