"""Our C functions for a CPU (``native*.c``), compiled by the machine's own compiler when a model is loaded.

The library is built for the sizes of one kind of head, in a folder that is gone once it is loaded. Where there is no
compiler, or what it made cannot be loaded, callers do with torch alone.
"""

from __future__ import annotations

import ctypes
import logging
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.engines.local.limits import PAGE_TOKENS

logger = logging.getLogger(__name__)

_SOURCES = [str(Path(__file__).with_name(name)) for name in ("native.c", "native_layers.c", "native_prompts.c")]
_COMPILERS = ("cc", "gcc", "clang")
_PATIENCE_S = 60.0
# Sums may be taken in any order, as vectors want it; numbers that are none must still come out as such.
_FLAGS = ("-O3", "-march=native", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
_ROWS_AT_ONCE = 64  # of a layer: what they become on the way stays in the second cache
_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


@dataclass(frozen=True, slots=True)
class Heads:
    """What the functions are compiled for."""

    kv_heads: int
    group: int  # query heads for each key head
    key_size: int
    value_size: int


SMALL = Heads(1, 1, 16, 16)  # for functions that know no heads


class Layer(ctypes.Structure):
    """A decoder layer: its sizes, and where its packed weights are (``native_layers.c``), which its maker keeps."""

    _fields_ = (
        *[(name, _COUNT) for name in ("hidden", "inner", "heads", "kv_heads", "head_size", "qkv_width")],
        *[(name, _POINTER) for name in ("norm", "qkv", "qkv_bias", "query_norm", "key_norm", "out", "second_norm")],
        *[(name, _POINTER) for name in ("gate", "up", "down")],
        *[(name, _NUMBER) for name in ("epsilon", "second_epsilon", "query_epsilon", "key_epsilon")],
    )


class Native:
    """The functions. Tensors must be dense, float32, and on the CPU; they run without Python's lock."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._attend = _typed(library.attend, *[_POINTER] * 4, _COUNT, *[_POINTER] * 2, *[_COUNT] * 2, *[_NUMBER] * 2)
        self._attend_prompt = _typed(
            library.attend_prompt, *[_POINTER] * 4, *[_COUNT] * 2, _POINTER, _COUNT, *[_NUMBER] * 2
        )
        self._rms_norm = _typed(library.rms_norm, *[_POINTER] * 3, *[_COUNT] * 2, *[_NUMBER] * 2)
        self._product = _typed(library.product, _POINTER, *[_COUNT] * 2, _POINTER, _COUNT, _POINTER)
        self._before_attention = _typed(library.before_attention, *[_POINTER] * 4, _COUNT, *[_POINTER] * 4)
        self._after_attention = _typed(library.after_attention, *[_POINTER] * 3, _COUNT, *[_POINTER] * 2)

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        table: Tensor,
        lengths: Tensor,
        out: Tensor,
        *,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> None:
        """[rows, heads, size], two [pages, page, kv heads, size], int32 [rows, pages] (its rows may be apart), int64
        [rows] -> ``out`` [rows, heads, size of values]."""
        self._attend(
            query.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            table.data_ptr(),
            table.stride(0),
            lengths.data_ptr(),
            out.data_ptr(),
            len(query),
            window or 0,
            scaling,
            softcap or 0.0,
        )

    def attend_prompt(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        table: Tensor,
        start: int,
        out: Tensor,
        *,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> None:
        """[tokens, heads, size] of one sequence from its token ``start`` on, two [pages, page, kv heads, size] with
        theirs in them, int64 [pages] -> ``out`` [tokens, heads, size of values]."""
        self._attend_prompt(
            query.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            table.data_ptr(),
            start,
            len(query),
            out.data_ptr(),
            window or 0,
            scaling,
            softcap or 0.0,
        )

    def rms_norm(self, given: Tensor, weight: Tensor, out: Tensor, epsilon: float, *, one_more: bool) -> None:
        size = given.shape[-1]
        rows = given.numel() // size
        self._rms_norm(given.data_ptr(), weight.data_ptr(), out.data_ptr(), rows, size, epsilon, float(one_more))

    def product(self, given: Tensor, packed: Tensor) -> Tensor:
        """[rows, size], [panels, size, panel] -> [rows, panels * panel]."""
        out = given.new_empty(len(given), packed.shape[0] * packed.shape[2])
        self._product(given.data_ptr(), *given.shape, packed.data_ptr(), out.shape[1], out.data_ptr())
        return out

    def before_attention(
        self, layer: Layer, given: Tensor, cosine: Tensor, sine: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> None:
        """[rows, hidden], two [rows, head size] -> fills three [rows, heads, head size]."""
        room = given.new_empty(min(len(given), _ROWS_AT_ONCE) * (layer.hidden + layer.qkv_width))
        self._before_attention(
            ctypes.addressof(layer),
            given.data_ptr(),
            cosine.data_ptr(),
            sine.data_ptr(),
            len(given),
            query.data_ptr(),
            key.data_ptr(),
            value.data_ptr(),
            room.data_ptr(),
        )

    def after_attention(self, layer: Layer, given: Tensor, mixed: Tensor, out: Tensor) -> None:
        """[rows, hidden], [rows, heads, head size] -> ``out`` [rows, hidden]."""
        room = given.new_empty(min(len(given), _ROWS_AT_ONCE) * (layer.hidden + 2 * layer.inner))
        self._after_attention(
            ctypes.addressof(layer), given.data_ptr(), mixed.data_ptr(), len(given), out.data_ptr(), room.data_ptr()
        )


def _typed(function: Any, *types: Any) -> Any:
    function.argtypes, function.restype = types, None
    return function


@lru_cache
def native_for(heads: Heads) -> Native | None:
    """Compile, once a process; None where that does not work."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        logger.info("no C compiler (cc, gcc, clang): local models on the CPU are somewhat slower")
        return None
    try:
        return Native(_built(compiler, heads))
    except (OSError, subprocess.SubprocessError) as error:  # no space, no headers, a folder that runs nothing
        said = getattr(error, "stderr", None) or str(error)
        logger.warning("the CPU kernels cannot be compiled; models are slower without", extra={"reason": said[-300:]})
        return None


def _built(compiler: str, heads: Heads) -> ctypes.CDLL:
    sizes: dict[str, Any] = {
        "PAGE": PAGE_TOKENS,
        "KV_HEADS": heads.kv_heads,
        "GROUP": heads.group,
        "KEY_SIZE": heads.key_size,
        "VALUE_SIZE": heads.value_size,
        "ROWS_AT_ONCE": _ROWS_AT_ONCE,
    }
    with tempfile.TemporaryDirectory(prefix="clawdbot-native-") as folder:
        made = Path(folder) / "native.so"
        defined = [f"-D{name}={size}" for name, size in sizes.items()]
        subprocess.run(  # noqa: S603  (no word of it comes from outside)
            [compiler, *_FLAGS, *defined, "-shared", "-fPIC", "-o", str(made), *_SOURCES, "-lm"],
            check=True,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        return ctypes.CDLL(str(made))
