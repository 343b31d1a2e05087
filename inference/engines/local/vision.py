"""Pictures: from encoded files to what an image-text model reads beside its tokens.

For models that take a picture as patches on a grid and count its tokens by that grid: the Qwen-VL family and those
built like it. Others answer text only.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from inference.errors import BadRequest

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MAX_FILE_PIXELS = 40_000_000  # what is larger may be a bomb
_MAX_SHOWN_PIXELS = 1_000_000  # about a thousand tokens; finer detail costs more than it tells


@dataclass(frozen=True, slots=True)
class Patches:
    """One picture, ready for the model. ``tokens`` is how many it stands for in the prompt."""

    pixel_values: Tensor = field(repr=False)
    grid: Tensor
    tokens: int
    digest: int  # of the file, 63 bits


@dataclass(frozen=True, slots=True)
class Picture:
    """All pictures of one prompt, and where they are in it."""

    inputs: dict[str, Tensor] = field(repr=False)  # the keywords of the model's own forward
    positions: Tensor = field(repr=False)  # int64 [3, prompt]
    offset: int  # of the positions after the last picture, against their places
    end: int  # the place after the last picture
    keys: list[int] = field(repr=False)  # the prompt's tokens, but each picture's by what it shows: what caches compare

    def for_tokens(self, count: int, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
        """The positions and inputs of the first ``count`` tokens, some of which may be the answer's."""
        known = self.positions.shape[1]
        after = torch.arange(known, count) + self.offset
        positions = torch.cat([self.positions, after.expand(3, -1)], dim=1)
        kinds = torch.nn.functional.pad(self.inputs["mm_token_type_ids"], (0, count - known))
        inputs = {**self.inputs, "mm_token_type_ids": kinds}
        return positions.to(device), {name: tensor.to(device) for name, tensor in inputs.items()}


class Vision:
    """The eyes of one model. Safe to use from several threads."""

    def __init__(self, model: Any, image_processor: Any) -> None:
        self.image_id = int(model.config.image_token_id)
        self._rope_index = model.model.get_rope_index
        self._rope_names = set(inspect.signature(self._rope_index).parameters)
        self._processor = image_processor

    def read(self, data: bytes) -> Patches:
        """Raises BadRequest for what is no picture, or too large a one."""
        picture = decoded(data)
        made = self._processor(images=[picture], return_tensors="pt")
        grid = made["image_grid_thw"]
        tokens = int(grid.prod()) // self._processor.merge_size**2
        digest = int.from_bytes(blake2b(data, digest_size=8).digest()) >> 1
        return Patches(made["pixel_values"], grid, tokens, digest)

    def placed(self, ids: Sequence[int], pictures: Sequence[Patches]) -> tuple[list[int], Picture]:
        """Make room for each picture where the template put its mark."""
        if list(ids).count(self.image_id) != len(pictures):
            raise BadRequest("the chat template does not place these pictures")
        rest = iter(pictures)
        tokens: list[int] = []
        keys: list[int] = []
        end = 0
        for id in ids:
            if id != self.image_id:
                tokens.append(id)
                keys.append(id)
                continue
            picture = next(rest)
            tokens += [id] * picture.tokens
            keys += [-1 - picture.digest] * picture.tokens
            end = len(tokens)
        return tokens, self._picture(tokens, keys, end, pictures)

    def _picture(self, tokens: list[int], keys: list[int], end: int, pictures: Sequence[Patches]) -> Picture:
        ids = torch.tensor([tokens])
        inputs = {
            "pixel_values": torch.cat([picture.pixel_values for picture in pictures]),
            "image_grid_thw": torch.cat([picture.grid for picture in pictures]),
            "mm_token_type_ids": (ids == self.image_id).int(),
        }
        wanted = {name: tensor for name, tensor in inputs.items() if name in self._rope_names}
        positions, offset = self._rope_index(input_ids=ids, **wanted)
        return Picture(inputs, positions[:, 0], int(offset), end, keys)


def vision_of(model: Any, image_processor: Any) -> Vision | None:
    """None for a model whose pictures we cannot place."""
    has_grid = hasattr(image_processor, "merge_size") and hasattr(getattr(model, "model", None), "get_rope_index")
    return Vision(model, image_processor) if has_grid else None


def decoded(data: bytes) -> Image.Image:
    """Raises BadRequest for what is no picture, or too large a one. Never runs more than the decoder it needs."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > _MAX_FILE_PIXELS:
                raise BadRequest(f"a picture has {picture.width} x {picture.height} pixels, which is too many")
            shown = _opaque(picture)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequest("a picture cannot be read; send a PNG, JPEG, WebP, GIF or BMP file") from error
    scale = (_MAX_SHOWN_PIXELS / (shown.width * shown.height)) ** 0.5
    if scale < 1:
        shown = shown.resize((max(1, int(shown.width * scale)), max(1, int(shown.height * scale))))
    return shown


def _opaque(picture: Image.Image) -> Image.Image:
    """On white, as people see it; what is transparent has any colour."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture.convert("RGB")
    with_alpha = picture.convert("RGBA")
    ground = Image.new("RGBA", with_alpha.size, "white")
    return Image.alpha_composite(ground, with_alpha).convert("RGB")
