"""The Triton kernels against plain arithmetic, as a program: prints what differs by how much, as JSON.

On a CPU start it with TRITON_INTERPRET=1 (it must be set before Triton is imported: hence a process of its own).

    python -m tests.inference.engines.local.kernel_cases [cpu|cuda]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.engines.local import kernels, norms_gpu, sampling_gpu
from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.attention_gpu import GpuStep
from inference.engines.local.batch import Tables, make_batch
from inference.engines.local.kernels import Tuning
from inference.engines.local.kv import KVCache, LayerShape
from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.sampling import CANDIDATES, Choices, pick
from inference.engines.local.sequence import Row, Sequence, pages_for

LENGTHS = [1, 15, 16, 17, 33, 64, 130]  # around the borders of pages and of blocks of keys
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True, slots=True)
class Case:
    heads: int
    kv_heads: int
    key_size: int
    value_size: int
    window: int | None = None
    softcap: float | None = None
    splits: int | None = 1
    dtype: str = "float32"


CASES = {
    "as many key heads as heads": Case(2, 2, 16, 16),
    "grouped heads, odd size": Case(4, 2, 48, 48, splits=4),
    "one key head, float16": Case(8, 1, 64, 64, splits=2, dtype="float16"),
    "window inside a page": Case(4, 2, 16, 16, window=5, splits=2),
    "window over pages": Case(4, 2, 16, 16, window=40, splits=4),
    "softcap": Case(4, 2, 32, 32, softcap=3.0, splits=2),
    "softcap, window, other size of values": Case(6, 2, 32, 24, window=24, softcap=3.0),
    "more parts than keys": Case(2, 1, 16, 16, splits=32),
}
GPU_CASES = {  # the interpreter does not multiply bfloat16
    "qwen3-8b": Case(32, 8, 128, 128, splits=None, dtype="bfloat16"),
    "gemma3": Case(8, 4, 256, 256, window=512, splits=None, dtype="bfloat16"),
    "gemma2": Case(8, 4, 256, 256, softcap=50.0, splits=8, dtype="bfloat16"),
}


def reference(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: list[int], case: Case) -> Tensor:
    """Row by row, in float32, with nothing shared and nothing clever."""
    rows = []
    for row, length in enumerate(lengths):
        key, value = (pages[table[row]].flatten(0, 1)[:length].float() for pages in (keys, values))
        if case.window is not None:
            key, value = key[-case.window :], value[-case.window :]
        key, value = (kv.repeat_interleave(case.heads // case.kv_heads, dim=1) for kv in (key, value))
        scores = torch.einsum("hd,nhd->hn", query[row].float(), key) * case.key_size**-0.5
        if case.softcap is not None:
            scores = case.softcap * torch.tanh(scores / case.softcap)
        rows.append(torch.einsum("hn,nhd->hd", scores.softmax(-1), value))
    return torch.stack(rows)


def attention_difference(case: Case, device: str, lengths: list[int]) -> float:
    """The largest, over all rows; a table points to pages in no order, and page 0 holds what must not be read."""
    torch.manual_seed(20261130)
    dtype = getattr(torch, case.dtype)
    pages = -(-max(lengths) // PAGE_TOKENS)
    count = len(lengths) * pages
    table = (torch.randperm(count) + 1).view(len(lengths), pages)
    keys = torch.randn(count + 1, PAGE_TOKENS, case.kv_heads, case.key_size).to(device, dtype)
    values = torch.randn(count + 1, PAGE_TOKENS, case.kv_heads, case.value_size).to(device, dtype)
    keys[0] = values[0] = torch.nan
    for row, length in enumerate(lengths):  # nor may the places after a sequence's end
        at = torch.arange(length, pages * PAGE_TOKENS)
        places = table[row, at // PAGE_TOKENS] * PAGE_TOKENS + at % PAGE_TOKENS
        keys.flatten(0, 1)[places] = torch.nan
        values.flatten(0, 1)[places] = torch.nan
    query = torch.randn(case.heads, len(lengths), case.key_size).to(device, dtype).transpose(0, 1)
    found = kernels.attend(
        query,
        keys,
        values,
        table.to(device, torch.int32),
        torch.tensor(lengths, device=device),
        scaling=case.key_size**-0.5,
        sliding_window=case.window,
        softcap=case.softcap,
        tuning=Tuning(keys=16 if device == "cpu" else 64, splits=case.splits),
    )
    wanted = reference(query, keys, values, table.to(device), lengths, case)
    difference = (found.float() - wanted).abs().max() / wanted.abs().max()
    return float(difference.nan_to_num(torch.inf))


def store_difference(device: str) -> float:
    """New keys and values land where they should, and nowhere else."""
    torch.manual_seed(20261130)
    keys, values = torch.randn(5, 16, 3, 24, device=device), torch.randn(5, 16, 3, 8, device=device)
    key, value = torch.randn(3, 7, 24, device=device).transpose(0, 1), torch.randn(7, 3, 8, device=device)
    places = torch.randperm(80, device=device)[:7]
    wanted = [pages.clone().flatten(0, 1).index_copy(0, places, new) for pages, new in ((keys, key), (values, value))]
    kernels.store(key, value, keys, values, places)
    return max(
        float((pages.flatten(0, 1) - want).abs().max()) for pages, want in zip((keys, values), wanted, strict=True)
    )


def norm_difference(device: str, dtype: str, *, one_more: bool) -> float:
    torch.manual_seed(20261130)
    kind = getattr(torch, dtype)
    given, weight = torch.randn(2, 3, 96).to(device, kind) * 3, torch.randn(96).to(device, kind)
    found = norms_gpu.rms_norm(given.transpose(0, 1), weight, 1e-6, one_more=one_more).float()
    scaled = given.transpose(0, 1).float() * (given.transpose(0, 1).float().pow(2).mean(-1, True) + 1e-6).rsqrt()
    wanted = scaled * (1 + weight.float()) if one_more else scaled.to(kind).float() * weight.float()
    return float((found - wanted).abs().max() / wanted.abs().max())


def step_difference(device: str, dtype: str, *, window: int | None, is_new: bool) -> float:
    """A whole step, with single tokens and with chunks of prompts, beside that of a CPU in float32."""
    torch.manual_seed(20261130)
    heads, kv_heads, size = 4, 2, 64
    counts = [(40, 1), (3, 1), (0, 37), (0, 16)] if is_new else [(40, 1), (0, 37), (48, 30), (5, 11)]
    plan, page = [], 1
    for slot, (start, count) in enumerate(counts):
        pages = list(range(page, page + pages_for(start + count)))
        page += len(pages)
        sequence = Sequence(str(slot), [7] * (start + count), 4, slot=slot, pages=pages, computed=start)
        plan.append(Row(sequence, start, count))
    kind, layer = getattr(torch, dtype), LayerShape(kv_heads, size, size)
    fast = KVCache([layer], page, kind, torch.device(device))
    fast.keys[0].normal_()
    fast.values[0].normal_()
    exact = KVCache([layer], page, torch.float32, torch.device("cpu"))
    exact.keys[0].copy_(fast.keys[0])
    exact.values[0].copy_(fast.values[0])
    tokens = sum(count for _, count in counts)
    query, key, value = (torch.randn(h, tokens, size).to(device, kind) for h in (heads, kv_heads, kv_heads))
    how: dict[str, Any] = {"scaling": size**-0.5, "sliding_window": window, "softcap": None}
    found = GpuStep(fast, make_batch(plan, Tables(8, 16), torch.device(device))).attend(0, query, key, value, **how)
    plain = (given.cpu().float() for given in (query, key, value))
    wanted = CpuStep(exact, make_batch(plan, Tables(8, 16), torch.device("cpu"))).attend(0, *plain, **how)
    difference = (found.cpu().float() - wanted).abs().max() / wanted.abs().max()
    return float(difference.nan_to_num(torch.inf))


def step_differences(device: str) -> dict[str, tuple[float, float]]:
    found = {}
    for dtype in ("float32",) if device == "cpu" else ("float32", "float16", "bfloat16"):
        for window in (None, 24):
            for is_new in (True, False):
                name = f"a step, {dtype}, window {window}, {'new prompts' if is_new else 'prompts in chunks'}"
                found[name] = (step_difference(device, dtype, window=window, is_new=is_new), TOLERANCE[dtype])
    return found


def draw_difference(device: str, count: int = CANDIDATES) -> float:
    """The share of rows that draw something else than on a CPU; rounding may move a draw at a very border."""
    rng = torch.Generator().manual_seed(20261130)
    rows = 30 if device == "cpu" else 4000
    candidates = (torch.randn(rows, count, generator=rng) * 4).sort(dim=-1, descending=True).values
    choices = Choices(
        temperature=torch.rand(rows, generator=rng) * 2,
        top_p=torch.rand(rows, generator=rng).clamp(min=0.01),
        top_k=torch.randint(1, CANDIDATES + 1, (rows,), generator=rng),
        seed=torch.randint(-(2**63), 2**63 - 1, (rows,), generator=rng),
        place=torch.randint(0, 40960, (rows,), generator=rng),
    )
    moved = Choices(*(getattr(choices, name).to(device) for name in Choices.__slots__))
    found = sampling_gpu.pick(candidates.to(device), moved).cpu()
    return float((found != pick(candidates, choices)).float().mean())


def differences(device: str) -> dict[str, tuple[float, float]]:
    """Name -> (found, allowed)."""
    cases = CASES if device == "cpu" else CASES | GPU_CASES
    long = [] if device == "cpu" else [700, 4097]
    found = {
        name: (attention_difference(case, device, LENGTHS + long), TOLERANCE[case.dtype])
        for name, case in cases.items()
    }
    return (found | step_differences(device)) | {
        "norm": (norm_difference(device, "float32", one_more=False), 1e-6),
        "norm, float16": (norm_difference(device, "float16", one_more=False), 2e-3),
        "norm of one more": (norm_difference(device, "float32", one_more=True), 1e-6),
        "store": (store_difference(device), 0.0),
        "draw": (draw_difference(device), 0.001),
        "draw from few": (draw_difference(device, count=37), 0.001),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(differences(sys.argv[1] if sys.argv[1:] else "cpu")))
